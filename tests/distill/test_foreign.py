"""What foreign models are refused for, and which stages are left out for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from edgekit.distill.convert import import_model
from edgekit.distill.foreign import import_foreign, is_foreign_source, left_out, teach
from edgekit.errors import ModelError, RecipeError
from edgekit.recipe import Recipe


@pytest.fixture(scope="module")
def mpnet(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random MPNet with a head of two classes, as transformers saves it. Shared: do not write to it."""
    torch.manual_seed(0)
    config = transformers.MPNetConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=70,
        num_labels=2,
        id2label={0: "ham", 1: "spam"},
    )
    folder = tmp_path_factory.mktemp("mpnet")
    transformers.MPNetForSequenceClassification(config).save_pretrained(folder)
    shutil.copyfile(minilm / "tokenizer.json", folder / "tokenizer.json")
    return folder


def _recipe(model: Path, tmp_path: Path, stages: dict[str, object] | None = None, task: str = "classify") -> Recipe:
    data = tmp_path / "data.csv"
    data.write_text("text,label\na,ham\nb,spam\n")
    raw = {"name": "r", "model": str(model), "task": task, "data": {"train": {"path": str(data)}}, "max_length": 64}
    return Recipe.model_validate({**raw, "stages": stages or {}})


def test_sources_are_told_apart(mpnet: Path, tiny_model: Path) -> None:
    assert is_foreign_source(str(mpnet))
    assert not is_foreign_source(str(tiny_model))
    with pytest.raises(ModelError, match=r"mpnet.*exported and quantized as they are"):
        import_model(str(mpnet), "classify", max_length=64)


def test_stages_that_cannot_act_are_left_out_unless_the_recipe_asks_for_them(mpnet: Path, tmp_path: Path) -> None:
    assert left_out(_recipe(mpnet, tmp_path)) == ["vocabulary", "distill", "prune"]
    assert left_out(_recipe(mpnet, tmp_path, {"prune": {"enabled": False}, "distill": {"epochs": 1}})) == [
        "vocabulary",
        "distill",
    ]
    with pytest.raises(RecipeError, match=r"stages\.prune\.enabled; found true, with a model of type mpnet"):
        left_out(_recipe(mpnet, tmp_path, {"prune": {"enabled": True}}))


def test_its_head_must_be_one_for_the_data(mpnet: Path, tmp_path: Path) -> None:
    recipe = _recipe(mpnet, tmp_path)
    done = teach(recipe, ["ham", "spam"], tmp_path / "teacher")
    assert done["trained"].startswith("nothing")
    assert "left out: vocabulary, distill, prune" in done["architecture"]
    written = sorted(path.name for path in (tmp_path / "teacher").iterdir())
    assert written == ["config.json", "foreign.json", "model.safetensors", "tokenizer.json"]
    with pytest.raises(ModelError, match=r"labels \['ham', 'spam'\].*fine-tune this one before"):
        teach(recipe, ["good", "bad"], tmp_path / "other")


def test_what_cannot_be_followed_is_refused(mpnet: Path, minilm: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="max_length"):
        import_foreign(mpnet, "embed", max_length=128)  # it has 68 positions
    with pytest.raises(ModelError, match="a model for tag"):
        import_foreign(mpnet, "tag", max_length=64)  # its head is for whole texts
    other = shutil.copytree(mpnet, tmp_path / "dense")
    modules = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Dense"}]
    (other / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="module Dense"):
        import_foreign(other, "embed", max_length=64)
    other = shutil.copytree(mpnet, tmp_path / "max")
    (other / "1_Pooling").mkdir()
    (other / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelError, match="pooling_mode_max_tokens"):
        import_foreign(other, "embed", max_length=64)
    config = json.loads((mpnet / "config.json").read_text()) | {"model_type": "nomic_bert"}
    other = shutil.copytree(mpnet, tmp_path / "remote")
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="nomic_bert"):
        import_foreign(other, "embed", max_length=64)
