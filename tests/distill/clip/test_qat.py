"""Towers trained under INT8 rounding: rounded where their files round, and in the ranges that they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgekit.data import PictureTextSet
from edgekit.data.pictures import ArrayPictures, PictureSplits
from edgekit.distill import fake_quant, families, ranges
from edgekit.distill.clip import rounding
from edgekit.distill.clip.folder import load, save
from edgekit.distill.ranges import RESULT, SUM
from edgekit.errors import ModelError, RecipeError
from edgekit.evaluate import parity
from edgekit.export import export_onnx
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Inputs
from edgekit.export.dual.onnx import trace_tower
from edgekit.progress import Silent
from edgekit.quantize import quantize
from edgekit.quantize.convolution import value_names
from edgekit.quantize.qat import spans
from edgekit.recipe import Recipe
from edgekit.recipe.stages import ExportConfig, QuantizeConfig
from tests.distill.clip.helpers import pictures
from tests.export import duals
from tests.quantize.towers import Nearness

EXAMPLES, HELD = duals.examples(24), duals.examples(12, seed=99)


def _recipe(quantize: dict[str, Any] | None = None, distill: dict[str, Any] | None = None, **part: Any) -> Recipe:
    training = {"enabled": True, "min_steps": 1, "batch_size": 8, "calibration_examples": 4, **part}
    raw = {"task": "clip", "model": "unused", "data": {"train": "unused"}, "max_length": 16, "stride": 0}
    stages = {"qat": training, "quantize": quantize or {}, "distill": distill or {}}
    return Recipe.model_validate({**raw, "threads": 1, "bf16": False, "stages": stages})


def _set(examples: list[duals.Example]) -> PictureTextSet:
    seen = ArrayPictures.of([picture for picture, _ in examples])
    return PictureTextSet(seen, [caption for _, caption in examples], np.arange(len(examples)))


def _splits(examples: list[duals.Example] = EXAMPLES) -> PictureSplits[PictureTextSet]:
    train, held = _set(examples), _set(HELD)
    return PictureSplits(train=train, validation=held, test=held, rules=[], fingerprint="")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: ``source``, that model ``trained`` for three steps under rounding, and its ``fp32`` artifact."""
    work = tmp_path_factory.mktemp("dual-qat")
    source = duals.saved(work / "source" / "model", "lite", "clip")
    report = families.qat(_recipe(), _splits(), source, source, work / "trained", work / "work", Silent())
    assert report["towers"] == ["image", "text"] and report["calibration_pictures"] == 4
    assert report["ranges"] == len(ranges.read(work / "trained"))
    export_onnx(work / "trained", work / "fp32", ExportConfig(), EXAMPLES[:2])
    return work


def _rounded(folder: Path, name: str) -> Any:
    """Tower ``name`` of the torch folder with its own ranges in place."""
    found = ranges.of_tower(ranges.read(folder), name)
    ends = {key: (-zero * scale, (255 - zero) * scale) for key, (scale, zero) in found.items()}
    return rounding.insert(getattr(load(folder)[0], name), ends).eval()


def _answers(tower: Any, feeds: list[towers.Feed]) -> np.ndarray:
    if isinstance(tower, towers.OpenTower):
        return np.concatenate([tower(feed) for feed in feeds])
    with torch.inference_mode():
        return np.concatenate([tower(*map(torch.from_numpy, feed.values())).numpy() for feed in feeds])


@pytest.mark.parametrize("image", ["lite", pytest.param("mci", marks=pytest.mark.slow)])
def test_torch_rounds_the_values_that_the_file_rounds(image: str) -> None:
    model = duals.dual(image).merged()
    wanted = {name: parameter.clone() for name, parameter in model.image.state_dict().items()}
    with torch.inference_mode():
        before = model.image(pictures(2))
    ends = rounding.observe(model.image, ((pictures(1, seed=seed),) for seed in range(3)))
    graph = trace_tower(model, "image")
    assert set(ends) == set(value_names(graph).values())
    assert any(name.endswith(SUM) for name in ends) and all(low <= 0 < high for low, high in ends.values())
    rounded = rounding.insert(model.image, ends)
    with torch.inference_mode():
        near = parity(before.numpy(), rounded(pictures(2)).numpy())
    assert 0.9 < near.cosine_mean < 0.999999
    rounded(pictures(2)).square().sum().backward()
    still = [name for name, one in rounded.named_parameters() if one.grad is None]
    assert still == []
    plain, found = rounding.remove(rounded)
    assert list(found) == list(ends)
    after = plain.state_dict()
    assert after.keys() == wanted.keys() and all(torch.equal(after[name], value) for name, value in wanted.items())
    codes = {name: fake_quant.Range(pair).codes() for name, pair in ends.items()}
    with pytest.raises(ModelError, match="nothing on"):
        spans(graph, {name: pair for name, pair in codes.items() if not name.endswith(RESULT)})


def test_uneven_padding_and_clipping_round_as_one() -> None:
    """Zeros round to zeros, and what a ReLU6 cuts off is cut off by the range: one rounding, not two in a row."""
    model = duals.dual("lite").merged()
    ends = rounding.observe(model.image, [(pictures(1),)])
    assert ends["stem.conv" + RESULT][0] == 0 and ends["stem.conv" + RESULT][1] <= 6
    read = {name for name in ends if not name.endswith((RESULT, SUM))}
    assert read == {"stem.conv", "projection"}, "all others read what is rounded already"


def test_what_it_writes_is_a_plain_merged_model_and_its_ranges(trained: Path) -> None:
    files = sorted(path.name for path in (trained / "trained").iterdir())
    assert files == ["config.json", "model.safetensors", "ranges.json", "tokenizer.json"]
    model, source = load(trained / "trained")[0], load(trained / "source" / "model")[0].merged()
    assert model.config == source.config and not model.config.image.branches
    assert model.state_dict().keys() == source.state_dict().keys()
    for name in ("image.blocks.1.expand.conv.weight", "text.layers.0.up.weight"):
        assert not torch.equal(model.state_dict()[name], source.state_dict()[name])
    found = ranges.read(trained / "trained")
    assert {"image.stem.conv", "image.blocks.1.project.conv/result", "text.layers.0.attention.qkv"} <= set(found)


@pytest.mark.slow
def test_int8_files_have_the_ranges_of_training_and_answer_as_it_did(trained: Path, tmp_path: Path) -> None:
    judge = Nearness(trained / "fp32", HELD[:4])
    given = (trained / "fp32", trained / "trained", tmp_path / "int8", QuantizeConfig(), EXAMPLES[:8], judge)
    report = quantize(*given, bound=0.9).to_dict()
    assert [one["name"] for one in report["candidates"]] == ["image/qat", "text/qat"]
    inputs = Inputs(trained / "fp32")
    for name in towers.NAMES:
        feeds = inputs.of(name, HELD)
        plain, rounded = load(trained / "trained")[0], _rounded(trained / "trained", name)
        expected, unrounded = _answers(rounded, feeds), _answers(getattr(plain, name), feeds)
        found = _answers(towers.open_tower(tmp_path / "int8", name), feeds)
        # a median: float32 differs in its last bits from engine to engine, so now and then a value falls to the next
        assert np.median(np.abs(found - expected)) < 0.05 * np.median(np.abs(found - unrounded))
        assert parity(expected, found).cosine_mean > 0.999
    graph = onnx.load(str(tmp_path / "int8" / "image" / "model.onnx")).graph
    values = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    names = value_names(onnx.load(str(trained / "fp32" / "image" / "model.onnx")))
    for value, name in names.items():
        scale, zero = ranges.read(trained / "trained")[f"image.{name}"]
        assert values[f"{value}.scale"] == np.float32(scale) and values[f"{value}.zero"] == zero


@pytest.mark.slow
def test_openvino_rounds_products_as_trained_and_convolutions_its_own_way(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    from edgekit.export.openvino import export_openvino

    export_openvino(trained / "trained", trained / "fp32", tmp_path / "fp32", ExportConfig(), EXAMPLES[:2])
    judge = Nearness(tmp_path / "fp32", HELD[:4])
    config = QuantizeConfig(reduce_range=False)
    given = (tmp_path / "fp32", trained / "trained", tmp_path / "int8", config, EXAMPLES[:8], judge)
    report = quantize(*given, bound=0.9).to_dict()
    names = [one["name"] for one in report["candidates"]]
    assert names[-1] == "text/qat" and {name.split("/")[1] for name in names[:-1]} <= {"nncf", "nncf-accurate-bias"}
    feeds = Inputs(trained / "fp32").of("text", HELD)
    expected = _answers(_rounded(trained / "trained", "text"), feeds)
    found = _answers(towers.open_tower(tmp_path / "int8", "text"), feeds)
    assert parity(expected, found).cosine_mean > 0.99


def test_a_tower_that_stays_in_float_is_left_alone(tmp_path: Path) -> None:
    source = duals.saved(tmp_path / "source" / "model", "lite", "clip")
    recipe = _recipe({"towers": {"text": "fp32"}}, max_examples=8)
    families.qat(recipe, _splits(), source, source, tmp_path / "out", tmp_path / "work", Silent())
    assert {name.split(".")[0] for name in ranges.read(tmp_path / "out")} == {"image"}
    before, after = load(source)[0].merged().text.state_dict(), load(tmp_path / "out")[0].text.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    other = _recipe({"towers": {"image": "w8a16", "text": "w8a16"}})
    with pytest.raises(RecipeError, match=r"stages\.qat\.enabled"):
        families.left_out(other)


@pytest.mark.slow
def test_training_wins_back_what_rounding_cost(tmp_path: Path) -> None:
    """Some channels between two convolutions are forty times larger than the others: hard to round, until trained.

    Both INT8 files are held against the float embeddings of the model that came in.
    """
    model = duals.dual("lite")
    project, expand = model.image.blocks[2].project, model.image.blocks[3].expand
    channels = torch.arange(0, project.conv.out_channels, 5)
    with torch.no_grad():
        project.norm.weight[channels] *= 40
        project.norm.bias[channels] *= 40
        expand.conv.weight[:, channels] /= 40
    source = tmp_path / "source" / "model"
    save(model, duals.tokenizer(), source)
    # To follow is all that is asked: captions that have nothing to do with the pictures would pull elsewhere, and which
    # of many epochs ranks twelve such pictures best is chance.
    follow = {"pair_losses": {"contrastive": 0, "relational": 0, "feature_cosine": 1}}
    training = {"epochs": 1, "learning_rate": 1e-4, "calibration_examples": 16}
    recipe = _recipe({"towers": {"text": "fp32"}}, follow, **training)
    splits = _splits(duals.examples(480, seed=7))
    families.qat(recipe, splits, source, source, tmp_path / "trained", tmp_path / "work", Silent())
    lost = {}
    for name in (source, tmp_path / "trained"):
        out = tmp_path / f"{name.name}-onnx"
        export_onnx(name, out, ExportConfig(), EXAMPLES[:2])
        config = QuantizeConfig(towers={"text": "fp32"}, float_layers=0, reduce_range=False)
        quantize(out, name, tmp_path / name.name, config, EXAMPLES[:16], Nearness(out, HELD[:4]), bound=2.0)
        feeds = Inputs(out).of("image", HELD)
        found = _answers(towers.open_tower(tmp_path / name.name, "image"), feeds)
        near = parity(_answers(model.image, feeds), found).centred_mean
        assert near is not None
        lost[name.name] = 1 - near
    assert lost["trained"] < 0.9 * lost["model"]
