"""INT8 of dual encoders in onnxruntime: what is rounded, what stays, what the judge sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import RecipeError, StageError
from edgekit.evaluate import parity
from edgekit.export import export_onnx
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Inputs
from edgekit.export.graph import Graph
from edgekit.quantize import quantize
from edgekit.quantize.backend import Source
from edgekit.quantize.convolution import modules
from edgekit.quantize.onnx_convolution import OnnxConvolutionBackend
from edgekit.recipe import load_recipe
from edgekit.recipe.stages import ExportConfig, QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.isa import saturates
from tests.export import duals
from tests.quantize.towers import Nearness, reads_to_its_end


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    work = tmp_path_factory.mktemp("dual-int8")
    for image in ("lite", "mci", "vit"):
        source = duals.saved(work / f"{image}-torch", image, "clip")
        export_onnx(source, work / image, ExportConfig(), duals.examples(2))
    return {path.name: path for path in work.iterdir()}


def backend(folders: dict[str, Path], image: str) -> OnnxConvolutionBackend:
    feeds = Inputs(folders[image]).of("image", duals.examples(8))
    source = Source(folders[image] / "image", folders[f"{image}-torch"], feeds, True, 0, False, "convolution")
    return OnnxConvolutionBackend(source)


def answers(model: onnx.ModelProto, folder: Path, examples: list[duals.Example], tmp_path: Path) -> np.ndarray:
    onnx.save(model, str(tmp_path / "model.onnx"))
    tower = towers.OpenTower(tmp_path, "onnxruntime", artifact.read(folder).each_tower()["image"], 1)
    return np.concatenate([tower(feed) for feed in Inputs(folder).of("image", examples)])


def weights(path: Path) -> dict[str, int]:
    """Bytes of constants by dtype."""
    found: dict[str, int] = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        found[str(value.dtype)] = found.get(str(value.dtype), 0) + value.nbytes
    return found


@pytest.mark.parametrize(
    ("image", "least"), [("lite", 0.97), pytest.param("mci", 0.85, marks=pytest.mark.slow)]
)  # random weights are hard to round
def test_convolutions_are_int8_and_near_fp32(
    folders: dict[str, Path], image: str, least: float, tmp_path: Path
) -> None:
    made = backend(folders, image)
    label, make = next(iter(made.variants("static")))
    graph = made.graph(make())
    assert label == "static"
    assert modules(Graph(graph)) == {}  # none with float weights is left
    onnx.checker.check_model(graph, full_check=True)
    held_out = duals.examples(12, seed=99)
    expected = answers(made.base, folders[image], held_out, tmp_path)
    near = parity(expected, answers(graph, folders[image], held_out, tmp_path))
    assert near.centred_mean is not None
    assert near.centred_mean > least
    assert weights(tmp_path / "model.onnx")["int8"] >= sum(made.matrices().values())


@pytest.mark.parametrize("image", ["lite", pytest.param("mci", marks=pytest.mark.slow)])
def test_keep_float_restores(folders: dict[str, Path], image: str, tmp_path: Path) -> None:
    made = backend(folders, image)
    plan = next(iter(made.variants("static")))[1]()
    held_out = duals.examples(6, seed=5)
    expected = answers(made.base, folders[image], held_out, tmp_path)
    nothing_left = made.keep_float(plan, set(made.matrices()))
    np.testing.assert_allclose(
        answers(made.graph(nothing_left), folders[image], held_out, tmp_path), expected, atol=1e-5
    )
    one = next(iter(made.matrices()))
    assert set(modules(Graph(made.graph(made.keep_float(plan, {one}))))) == {one}


def test_correction_of_biases_pays(folders: dict[str, Path], tmp_path: Path) -> None:
    made = backend(folders, "lite")
    plan = next(iter(made.variants("static")))[1]()
    held_out = duals.examples(16, seed=7)
    expected = answers(made.base, folders["lite"], held_out, tmp_path)
    with_it = answers(made.graph(plan), folders["lite"], held_out, tmp_path)
    without = answers(made.graph(dataclasses.replace(plan, bias={})), folders["lite"], held_out, tmp_path)
    assert np.abs((with_it - expected).mean(0)).mean() < np.abs((without - expected).mean(0)).mean()


@pytest.mark.slow
def test_both_towers_are_quantized_by_their_own_candidates(folders: dict[str, Path], tmp_path: Path) -> None:
    judge = Nearness(folders["lite"], duals.examples(6, seed=11))
    config = QuantizeConfig(candidates=["dynamic", "static"], reduce_range=False)
    train = duals.examples(8)
    for out in (tmp_path / "a", tmp_path / "b"):
        report = quantize(folders["lite"], folders["lite-torch"], out, config, train, judge, bound=0.5)
    about = artifact.read(tmp_path / "a")
    assert {name: tower.precision for name, tower in about.each_tower().items()} == {"image": "w8a8", "text": "w8a8"}
    assert weights(tmp_path / "a" / "image" / "model.onnx")["int8"] > 15_000
    assert weights(tmp_path / "a" / "text" / "model.onnx")["int8"] > 40_000
    told = report.to_dict()
    names = {one["name"] for one in told["candidates"]}
    assert {"image/static", "text/dynamic"} <= names
    assert "image/dynamic" not in names
    assert told["towers"]["image"]["precision"] == "w8a8"
    chosen = {}
    for out in ("a", "b"):
        task = (tmp_path / out / "task.json").read_bytes()
        assert task == (folders["lite"] / "task.json").read_bytes()
        chosen[out] = (tmp_path / out / "image" / "model.onnx").read_bytes()
    assert chosen["a"] == chosen["b"]
    # each candidate was judged beside the other tower in fp32
    assert all(image != text for image, text in judge.asked)


@pytest.mark.slow
def test_a_tower_may_have_a_precision_of_its_own(folders: dict[str, Path], tmp_path: Path) -> None:
    judge = Nearness(folders["lite"], duals.examples(3, seed=11))
    common = {"candidates": ["dynamic"], "reduce_range": False}
    for given, kinds in (
        ({"image": "fp16", "text": "fp32"}, {"image": "float16", "text": "float32"}),
        ({"image": "fp16"}, {"image": "float16", "text": "int8"}),
    ):
        config, out = QuantizeConfig(**common, towers=given), tmp_path / str(len(given))
        report = quantize(folders["lite"], folders["lite-torch"], out, config, duals.examples(4), judge, bound=0.9)
        found, expected = artifact.read(out), {"text": "w8a8", **given}
        assert found.precision == "w8a8", "the file goes by the recipe's precision"
        assert {name: tower.precision for name, tower in found.each_tower().items()} == expected
        assert {name: one["precision"] for name, one in report.to_dict()["towers"].items()} == expected
        for name, kind in kinds.items():
            held = weights(out / name / "model.onnx")
            assert max(held, key=lambda dtype: held[dtype]) == kind
    same = (tmp_path / "2" / "text" / "model.onnx", folders["lite"] / "text" / "model.onnx")
    assert same[0].read_bytes() == same[1].read_bytes()
    assert config.tried("onnxruntime", "w8a8") == {"fp16": ["fp16"], "w8a8": ["dynamic"]}


def test_towers_are_stated_for_pictures_and_one_at_least_is_quantized() -> None:
    with pytest.raises(RecipeError, match="not fp32"):
        load_recipe("clip", {"stages.quantize.towers": {"image": "fp32", "text": "fp32"}})
    with pytest.raises(RecipeError, match="task clip"):
        load_recipe("sentiment", {"stages.quantize.towers.text": "fp32"})


@pytest.mark.slow
def test_a_tower_that_no_candidate_suits_stays_as_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    class Strict(Nearness):
        def drop(self, images: np.ndarray, texts: np.ndarray) -> tuple[float, dict[str, Any]]:
            changed = not np.array_equal(images, self.fp32["image"])
            return (1.0 if changed else 0.0), {}

    judge = Strict(folders["lite"], duals.examples(3, seed=11))
    config = QuantizeConfig(candidates=["static"], float_layers=0, reduce_range=False)
    report = quantize(folders["lite"], folders["lite-torch"], tmp_path / "out", config, duals.examples(6), judge)
    about = artifact.read(tmp_path / "out")
    assert {name: tower.precision for name, tower in about.each_tower().items()} == {"image": "fp32", "text": "w8a8"}
    same = (tmp_path / "out" / "image" / "model.onnx", folders["lite"] / "image" / "model.onnx")
    assert same[0].read_bytes() == same[1].read_bytes()
    told = report.to_dict()["towers"]["image"]
    assert told["precision"] == "fp32"
    assert "static drop 1.0000" in told["reason"]
    assert "image: fp32" in report.chosen


@pytest.mark.slow
def test_a_tower_that_int8_makes_slower_stays_as_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    """Asked for 1,000 times the speed, which no file has; what the recipe names a tower's precision, it keeps."""
    judge = Nearness(folders["lite"], duals.examples(3, seed=11))
    common: dict[str, Any] = {"candidates": ["static"], "float_layers": 0, "reduce_range": False}
    given = (duals.examples(4), judge)
    config = QuantizeConfig(**common, towers={"text": "w8a8"})
    paths = (folders["lite"], folders["lite-torch"])
    report = quantize(*paths, tmp_path / "out", config, *given, bound=0.9, min_speed=1000)
    about = artifact.read(tmp_path / "out")
    assert {name: tower.precision for name, tower in about.each_tower().items()} == {"image": "fp32", "text": "w8a8"}
    told = report.to_dict()["towers"]["image"]["reason"]
    assert told.startswith("INT8 is slower than fp32: static: ") and "of fp32's speed, asked for 1000.00" in told
    with pytest.raises(StageError, match=r"image tower: INT8 is slower.*text tower: INT8 is slower.*min_speed: 0"):
        quantize(*paths, tmp_path / "none", QuantizeConfig(**common), *given, bound=0.9, min_speed=1000)


@pytest.mark.slow
def test_sensitive_modules_stay_in_float_by_halving(folders: dict[str, Path], tmp_path: Path) -> None:
    class Needs(Nearness):
        """Only what keeps the image tower within a small error passes."""

        def drop(self, images: np.ndarray, texts: np.ndarray) -> tuple[float, dict[str, Any]]:
            error = float(np.abs(images - self.fp32["image"]).mean())
            return error, {}

    judge = Needs(folders["lite"], duals.examples(6, seed=11))
    config = QuantizeConfig(candidates=["static"], reduce_range=False)
    train = duals.examples(8)
    whole = quantize(folders["lite"], folders["lite-torch"], tmp_path / "a", config, train, judge, bound=1.0)
    drop = next(c["drop"] for c in whole.candidates if c["name"] == "image/static")
    part = quantize(folders["lite"], folders["lite-torch"], tmp_path / "b", config, train, judge, bound=0.7 * drop)
    chosen = next(c for c in part.candidates if c["chosen"] and c["name"].startswith("image/"))
    assert chosen["float_matrices"]
    assert chosen["drop"] <= 0.7 * drop
    assert {s["matrix"] for s in part.sensitivity} >= {f"image/{name}" for name in chosen["float_matrices"]}


def test_nothing_within_the_bound_is_an_error(folders: dict[str, Path], tmp_path: Path) -> None:
    judge = Nearness(folders["lite"], duals.examples(3, seed=11))
    config = QuantizeConfig(candidates=["static"], float_layers=0)
    with pytest.raises(StageError, match="no INT8 candidate of either tower") as caught:
        quantize(folders["lite"], folders["lite-torch"], tmp_path / "out", config, duals.examples(4), judge, bound=-1.0)
    assert "image tower" in str(caught.value)
    assert "text tower" in str(caught.value)


def test_no_examples_is_an_error(folders: dict[str, Path], tmp_path: Path) -> None:
    judge = Nearness(folders["lite"], duals.examples(2))
    with pytest.raises(StageError, match="calibration examples"):
        quantize(folders["lite"], folders["lite-torch"], tmp_path / "out", QuantizeConfig(), [], judge)


@pytest.mark.slow
def test_a_transformer_for_pictures_takes_the_path_of_texts(folders: dict[str, Path], tmp_path: Path) -> None:
    judge = Nearness(folders["vit"], duals.examples(4, seed=11))
    config = QuantizeConfig(candidates=["dynamic"], reduce_range=False)
    report = quantize(folders["vit"], folders["vit-torch"], tmp_path, config, duals.examples(6), judge, bound=0.5)
    assert {c["name"] for c in report.candidates} == {"image/dynamic", "text/dynamic"}
    near = {c["name"]: c["cosine_mean"] for c in report.candidates}
    assert min(near.values()) > 0.99


@pytest.mark.slow
def test_the_mask_survives(folders: dict[str, Path], tmp_path: Path) -> None:
    """What stands behind a text's end changes nothing, in INT8 as in fp32."""
    judge = Nearness(folders["vit"], duals.examples(4, seed=11))
    config = QuantizeConfig(candidates=["static"], reduce_range=saturates())
    quantize(folders["vit"], folders["vit-torch"], tmp_path, config, duals.examples(6), judge, bound=0.5)
    reads_to_its_end(tmp_path, 8)
