"""A ladder of image towers over one text tower: one space, one copy of what they share, and streams of pictures."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bundle import open_bundle
from edgekit.errors import InputError
from edgekit.runtimes import ImageEmbedder, Ladder, Stream, ZeroShotClassifier, artifact
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.index import Index
from edgekit.runtimes.verify import verify
from tests import clip_bundles

SMALL = "models/50/fp32.image.onnx"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("towers")
    first = clip_bundles.onnx_artifact(root)
    return first, clip_bundles.narrower(root / "torch", root / "50", 0.5)


@pytest.fixture(scope="module")
def bundle(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_bundles.ladder(tmp_path_factory.mktemp("ladder") / "x.edge", folders[0], {"50": folders[1]})


def _dual(path: Path, **how: str) -> DualModel:
    found = edgekit.load(path, threads=1, **how)  # type: ignore[arg-type]
    assert isinstance(found, DualModel)
    return found


def test_rungs_share_a_text_tower_byte_for_byte(folders: tuple[Path, Path], bundle: Path, tmp_path: Path) -> None:
    first, small = folders
    assert artifact.can_share(first, small)
    model = open_bundle(bundle).manifest.ladder[1].models[0]
    assert model.tower("text").path == "models/fp32.text.onnx" and model.parts == ["models/fp32.text.onnx"]  # type: ignore[union-attr]
    assert not (bundle / "models/50/fp32.text.onnx").exists() and (bundle / SMALL).is_file()
    assert verify(bundle, 1).ok
    other = Path(shutil.copytree(small, tmp_path / "other"))
    (other / "text/model.onnx").write_bytes((other / "text/model.onnx").read_bytes() + b"\0")
    assert not artifact.can_share(first, other)


def test_what_one_rung_embeds_serves_the_other(bundle: Path) -> None:
    whole, small = _dual(bundle), _dual(bundle, rung="50")
    assert small.file == SMALL and small.digest == whole.digest
    np.testing.assert_array_equal(small.embed_texts(clip_bundles.LABELS), whole.embed_texts(clip_bundles.LABELS))
    pictures = clip_bundles.pictures()
    rows = whole.embed_images(pictures), small.embed_images(pictures)
    assert not np.array_equal(*rows)
    assert float((rows[0] * rows[1]).sum(1).min()) > 0.8
    index = Index(clip_bundles.DIM, whole.digest)
    index.add([str(i) for i in range(len(pictures))], rows[0])
    assert small.search("a red square", index) == whole.search("a red square", index)
    assert len(small.search(pictures[0], index, 3)) == 3


def test_a_model_of_another_bundle_is_another_model(folders: tuple[Path, Path], bundle: Path, tmp_path: Path) -> None:
    alone = _dual(clip_bundles.bundle(tmp_path / "alone.edge", {clip_bundles.ONNX: folders[1]}))
    assert alone.digest != _dual(bundle).digest, "the same tower, but nothing says whose space it is in"
    with pytest.raises(InputError, match="model"):
        alone.search("a red square", Index(clip_bundles.DIM, _dual(bundle).digest))


def test_a_stream_of_pictures_goes_down_a_rung(bundle: Path) -> None:
    classify = partial(ZeroShotClassifier, labels=clip_bundles.LABELS)
    ladder = Ladder.from_bundle(bundle, threads=2, adapt=classify, down_after=1)
    picture = clip_bundles.pictures()[0]
    with Stream(ladder, deadline_ms=1e5) as stream:
        assert stream.run(picture).rung == "100"
        ladder.settle(True, 1.0, 0.1)
        result = stream.run(picture)
    expected = _dual(bundle, rung="50").zero_shot(picture, clip_bundles.LABELS)
    assert result.rung == "50"
    np.testing.assert_allclose(result.get().cosines, expected.cosines, atol=1e-4)
    lean = ladder.rungs[1].lean
    assert lean is not None
    assert isinstance(lean(), ZeroShotClassifier), "with fewer threads it is asked the same"
    cascade = Ladder.from_bundle(bundle, threads=1, adapt=classify, cascade=1.0)
    with Stream(cascade) as stream:
        assert stream.run(picture).tried == ("50", "100"), "the labels' scores tell how sure it is"


def test_rungs_hold_their_text_tower_once(bundle: Path) -> None:
    rungs = Ladder.from_bundle(bundle, threads=1, adapt=ImageEmbedder).rungs
    assert rungs[0].model.model.text is rungs[1].model.model.text
    assert [rung.p50_ms for rung in rungs] == [10.0, 5.0]


def test_a_ladder_written_before_channels_were_stated_is_read(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "x.edge"))
    manifest = json.loads((copy / "manifest.json").read_text())
    for rung in manifest["ladder"]:
        assert "layers" not in rung
        rung |= {"layers": rung.pop("channels"), "unknown": 1}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert [(rung.layers, rung.channels) for rung in open_bundle(copy).manifest.ladder] == [(100, None), (50, None)]
