"""A ladder out of one bundle: its rungs load, prove themselves, and a stream goes down them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

import edgekit
from edgekit.bundle import open_bundle, write
from edgekit.errors import BundleError, EngineError, InputError, TrustError
from edgekit.runtimes import Ladder, Stream
from edgekit.runtimes.model import Model
from edgekit.runtimes.verify import verify
from tests.runtimes import tiny

TEXT = "a charming film"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.ladder(tmp_path_factory.mktemp("ladder") / "x.edge")


def test_every_rung_with_its_figures(bundle: Path) -> None:
    ladder = Ladder.from_bundle(bundle, threads=1)
    assert [(one.name, one.metric, one.p50_ms) for one in ladder.rungs] == [
        ("6", 0.95, 9.0),
        ("4", 0.94, 5.0),
        ("2", 0.9, 1.0),
    ]
    files = [one.model.file for one in ladder.rungs]
    assert files == ["models/fp32.onnx", "models/4/fp32.onnx", "models/2/fp32.onnx"]
    assert all(one.lean is None for one in ladder.rungs)
    assert len({tuple(one.model.run(TEXT).scores) for one in ladder.rungs}) == 3


def test_a_stream_goes_down_a_rung(bundle: Path) -> None:
    ladder = Ladder.from_bundle(bundle, threads=1, down_after=2)
    with Stream(ladder) as stream:
        assert stream.run(TEXT).rung == "6"
        for now in (1.0, 2.0):
            ladder.settle(True, now, 0.1)
        result = stream.run(TEXT)
    assert result.rung == "4"
    assert result.get() == edgekit.load(bundle, threads=1, rung="4").run(TEXT)


def test_a_rung_has_a_lean_model_of_one_thread(bundle: Path) -> None:
    lean = Ladder.from_bundle(bundle, threads=2).rungs[2].lean
    assert lean is not None
    model = lean()
    assert model.threads == 1 and model.file == "models/2/fp32.onnx"


def test_load_takes_the_first_rung_however_fast_the_others_are(bundle: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert edgekit.load(bundle, threads=1).file == "models/fp32.onnx"
        assert edgekit.load(bundle, threads=1, engine="onnxruntime").file == "models/fp32.onnx"
    small = edgekit.load(bundle, threads=1, rung="2")
    assert isinstance(small, Model) and small.file == "models/2/fp32.onnx"
    assert edgekit.load(bundle, threads=1, file="models/4/fp32.onnx").file == "models/4/fp32.onnx"
    with pytest.raises(InputError, match="6, 4, 2"):
        edgekit.load(bundle, rung="3")


def test_each_rung_proves_itself(bundle: Path, tmp_path: Path) -> None:
    assert verify(bundle, 1).ok
    names = [check.name for check in verify(bundle, 1).checks if check.name.startswith("outputs")]
    assert names == ["outputs models/fp32.onnx", "outputs models/4/fp32.onnx", "outputs models/2/fp32.onnx"]
    opened = open_bundle(bundle)
    files: dict[str, Path | bytes] = {one.path: bundle / one.path for one in opened.manifest.files}
    files["models/2/fp32.onnx"] = bundle / "models/4/fp32.onnx"  # a rung that answers otherwise than it did
    write(tmp_path / "bad.edge", opened.manifest, files)
    found = verify(tmp_path / "bad.edge", 1)
    assert [check.name for check in found.checks if not check.ok] == ["outputs models/2/fp32.onnx"]
    with pytest.raises(EngineError, match="golden vectors of models/2"):
        Ladder.from_bundle(tmp_path / "bad.edge", threads=1)


def test_keys_hold_for_every_rung(bundle: Path) -> None:
    pytest.importorskip("cryptography", reason="needs edgekit[sign]")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(TrustError):
        Ladder.from_bundle(bundle, threads=1, trusted_keys=[pem])


def test_a_bundle_without_a_ladder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ladder"):
        Ladder.from_bundle(tiny.bundle(tmp_path / "x.edge"))
    with pytest.raises(InputError, match="no ladder"):
        edgekit.load(tmp_path / "x.edge", rung="2")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rungs: rungs[:1], "two or more"),
        (lambda rungs: [rungs[0], {**rungs[1], "name": "6"}], "its own name"),
        (lambda rungs: [rungs[0], {**rungs[1], "models": []}], "one or more"),
        (lambda rungs: [rungs[1], rungs[2]], "none: they are models"),
        (lambda rungs: [rungs[0], rungs[1], {**rungs[2], "models": rungs[1]["models"]}], "a path twice"),
        (lambda rungs: [rungs[0], {**rungs[1], "p50_ms": "fast"}], "a number"),
        (lambda rungs: rungs[0], "a list"),
    ],
)
def test_a_ladder_that_cannot_be_meant_is_refused(bundle: Path, tmp_path: Path, change: object, said: str) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "x.edge"))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["ladder"] = change(manifest["ladder"])  # type: ignore[operator]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=said):
        open_bundle(copy)


def test_a_rung_whose_file_is_not_listed_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "x.edge"))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["ladder"][2]["models"][0]["path"] = "../outside.onnx"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="outside"):
        open_bundle(copy)
