"""ONNX files of dual encoders: parity, shapes, bytes, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgekit.bundle.dual import DualSpec, ImageSpec, Tower
from edgekit.bundle.records import TaskSpec
from edgekit.distill.clip.dual import DualEncoder
from edgekit.errors import EngineError, ModelError, StageError
from edgekit.export import ExportReport, export_onnx
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Inputs
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from tests.distill.clip import helpers
from tests.export import duals

PAIRS = [("mci", "clip"), ("lite", "mct"), ("vit", "last"), ("siglip", "bert")]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ExportReport]:
    work = tmp_path_factory.mktemp("dual")
    source = duals.saved(work / "torch", *request.param)
    return source, work / "onnx", export_onnx(source, work / "onnx", ExportConfig(), duals.examples())


def test_each_tower_is_near_torch(made: tuple[Path, Path, ExportReport]) -> None:
    _, out, report = made
    assert report.cosine_min > 0.999999
    assert report.max_abs < 1e-3
    assert report.texts == 5
    assert set(report.to_dict()["towers"]) == {"image", "text"}
    assert report.size_bytes == sum((out / name / "model.onnx").stat().st_size for name in ("image", "text"))


def test_the_artifact_says_what_the_towers_take(made: tuple[Path, Path, ExportReport]) -> None:
    source, out, _ = made
    config = DualEncoder.load(source).config
    about, task = artifact.read(out), artifact.read_spec(out)
    parts = about.each_tower()
    assert about.engine == "onnxruntime"
    assert parts["image"] == Tower("image/model.onnx", "fp32", ["pixel_values"], "image_embeddings")
    masked = ["input_ids", "attention_mask"] if config.text.kind == "bert" else ["input_ids"]
    assert parts["text"].inputs == masked
    assert (task.task, task.max_length, task.fixed_length) == ("clip", 16, config.text.fixed_length)
    assert task.pictures is not None and task.pictures.size == helpers.SIDE
    assert artifact.is_dual(out)
    assert not artifact.is_dual(source)


def test_pictures_go_through_as_torch_has_them(made: tuple[Path, Path, ExportReport]) -> None:
    source, out, _ = made
    model, tower = DualEncoder.load(source), towers.open_tower(out, "image")
    for batch in (1, 2, 3, 7):
        pixels = helpers.pictures(batch, seed=batch)
        with torch.inference_mode():
            expected = model.image(pixels).numpy()
        np.testing.assert_allclose(tower({"pixel_values": pixels.numpy()}), expected, atol=2e-4, rtol=1e-3)


def test_texts_of_every_length_go_through_as_torch_has_them(made: tuple[Path, Path, ExportReport]) -> None:
    source, out, _ = made
    model, tower = DualEncoder.load(source), towers.open_tower(out, "text")
    lengths = [helpers.LENGTH] if model.config.text.fixed_length else range(3, helpers.LENGTH + 1)
    for length in lengths:
        ids = helpers.ids(3, length, seed=length)
        mask = helpers.mask_of(ids)
        with torch.inference_mode():
            expected = model.text(ids, mask).numpy()
        found = tower({"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-3)


def test_what_training_and_tracing_left_is_gone(made: tuple[Path, Path, ExportReport]) -> None:
    _, out, _ = made
    image = onnx.load(str(out / "image" / "model.onnx"))
    kinds = {node.op_type for node in image.graph.node}
    assert not kinds & {"Mod", "BatchNormalization", "Constant"}
    assert {value.name for value in image.graph.output} == {"image_embeddings"}


def test_two_exports_give_the_same_bytes(made: tuple[Path, Path, ExportReport], tmp_path: Path) -> None:
    source, out, _ = made
    export_onnx(source, tmp_path, ExportConfig(), duals.examples(2))
    for name in ("image/model.onnx", "text/model.onnx", "artifact.json", "task.json"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_the_text_after_the_end_is_not_read(made: tuple[Path, Path, ExportReport]) -> None:
    source, out, _ = made
    if DualEncoder.load(source).config.text.kind != "transformer" or Inputs(out).fixed:
        pytest.skip("this text tower reads its padding, or masks it")
    tower, ids = towers.open_tower(out, "text"), helpers.ids(4).numpy()
    other = ids.copy()
    other[(ids == 0)] = 7
    changed = ids.copy()
    changed[:, 1] = (changed[:, 1] + 3) % 50
    np.testing.assert_allclose(tower({"input_ids": other}), tower({"input_ids": ids}), atol=1e-5)
    assert np.abs(tower({"input_ids": changed}) - tower({"input_ids": ids})).max() > 1e-3


def test_a_file_beyond_the_bounds_is_refused(tmp_path: Path) -> None:
    source = duals.saved(tmp_path / "torch")
    with pytest.raises(StageError, match="image tower in onnxruntime differs") as caught:
        export_onnx(source, tmp_path / "out", ExportConfig(max_abs=1e-12), duals.examples(2))
    assert "1e-12" in str(caught.value)


def test_a_folder_without_tokenizer_or_with_a_broken_one(tmp_path: Path) -> None:
    source = duals.saved(tmp_path / "torch")
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        export_onnx(source, tmp_path / "out", ExportConfig(), duals.examples(2))


def test_an_artifact_with_unknown_towers(tmp_path: Path) -> None:
    (tmp_path / "artifact.json").write_text('{"engine": "onnxruntime", "precision": "fp32", "towers": {"sound": {}}}')
    with pytest.raises(ModelError, match="towers"):
        artifact.read(tmp_path)


def test_a_tower_that_is_not_there(tmp_path: Path) -> None:
    tower = Tower("image/model.onnx", "fp32", ["pixel_values"], "image_embeddings")
    spec = TaskSpec("clip", [], 16, 0, pictures=ImageSpec(), similarity=DualSpec())
    artifact.write(tmp_path, spec, "onnxruntime", "fp32", {"image": tower})
    with pytest.raises(EngineError, match=r"model\.onnx"):
        towers.open_tower(tmp_path, "image")
