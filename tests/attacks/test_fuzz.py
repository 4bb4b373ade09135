"""Fuzz targets: whatever the bytes, an answer or a typed error. The slow one goes on for a stated time."""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.bundle import TaskSpec, read_tensors
from edgekit.bundle.manifest import load_json, parse
from edgekit.bundle.reach import onnx, openvino, tflite
from edgekit.bundle.signature import parse as parse_signature
from edgekit.errors import BundleError, EngineError, InputError
from edgekit.runtimes.context import ClipTokenizer
from edgekit.runtimes.preprocess import TextPreprocessor
from edgekit.runtimes.vision import ImagePreprocessor, ImageSpec
from tests.attacks import tiny

SECONDS = 8.0  # of each target in the slow test
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
ROUND = settings(
    max_examples=100,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
pytestmark = pytest.mark.timeout(120)  # a hang is a failure

Change = tuple[str, int, bytes]
changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "put", "drop", "cut", "twice"]), st.integers(0, 1 << 20), st.binary(max_size=12)
    ),
    max_size=6,
)


def spoiled(data: bytes, steps: list[Change]) -> bytes:
    """``data`` after some changes at places that are taken modulo its length."""
    found = bytearray(data)
    for kind, place, value in steps:
        at = place % (len(found) + 1)
        if kind == "flip" and at < len(found):
            found[at] ^= (value[0] if value else 0) or 1
        elif kind == "put":
            found[at:at] = value
        elif kind == "drop":
            del found[at : at + 1 + len(value)]
        elif kind == "cut":
            del found[at:]
        else:
            found[at:at] = found[max(0, at - 64) : at]
    return bytes(found)


class Targets:
    """Each takes any bytes; a typed error is an answer, any other exception a bug."""

    def __init__(self, folder: Path, made: dict[str, Path]) -> None:
        self._folder, self._spec = folder, TaskSpec("classify", tiny.LABELS, 16, 4)
        self._pictures = ImagePreprocessor(ImageSpec(16), max_pixels=1 << 20)
        root = made["text"]
        self.seeds: dict[str, list[bytes]] = {
            "manifest": [(made[kind] / "manifest.json").read_bytes() for kind in made],
            "json": [b'{"a": [1, "\\u00e9\\"", {"b": null}], "c": 1e5}'],
            "signature": [b'{\n "schema_version": 1,\n "signatures": []\n}\n'],
            "tensors": [(root / "golden.safetensors").read_bytes()],
            "tokenizer": [(made[kind] / "tokenizer.json").read_bytes() for kind in made],
            "picture": [picture(form) for form in FORMATS],
            "onnx": [external()],
            "xml": [b'<?xml version="1.0"?><net><data offset="0" size="4"/></net>'],
            "tflite": [b"\x1c\0\0\0TFL3" + bytes(64)],
        }

    def manifest(self, data: bytes) -> None:
        assert parse(data).models

    def json(self, data: bytes) -> None:
        """Whatever we take, the standard library takes for the same."""
        assert load_json(data, "x", 1 << 20) == json.loads(data)

    def signature(self, data: bytes) -> None:
        assert parse_signature(data).to_bytes() == data

    def tensors(self, data: bytes) -> None:
        assert sum(value.nbytes for value in read_tensors(data).values()) <= len(data)

    def tokenizer(self, data: bytes) -> None:
        path = self._folder / "tokenizer.json"
        path.write_bytes(data)
        texts = ["", "a good film \u0378", "x" * 300]
        for windows in TextPreprocessor(path, self._spec).windows(texts):
            assert len(windows.ids) <= self._spec.max_length
        ids, mask = ClipTokenizer(path, 16)(texts, quiet=True)
        assert ids.shape == mask.shape == (3, 16)

    def picture(self, data: bytes) -> None:
        values = self._pictures.transform(self._pictures.decode(data))
        assert values.shape == (1, 3, 16, 16)
        assert np.isfinite(values).all()

    def onnx(self, data: bytes) -> None:
        self._reach(onnx.check, "m.onnx", data)

    def xml(self, data: bytes) -> None:
        self._reach(openvino.check, "m.xml", data)

    def tflite(self, data: bytes) -> None:
        self._reach(tflite.check, "m.tflite", data)

    def _reach(self, check: Callable[[Path, str, dict[str, int]], None], name: str, data: bytes) -> None:
        path = self._folder / name
        path.write_bytes(data)
        check(path, name, {"m.bin": 4})


def picture(form: str) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)).save(held, form)
    return held.getvalue()


def external() -> bytes:
    found = tiny.text_model(0)
    entry = found.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "m.bin"
    return found.SerializeToString()


NAMES = ["manifest", "json", "signature", "tensors", "tokenizer", "picture", "onnx", "xml", "tflite"]


@pytest.fixture(scope="module")
def targets(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Targets:
    return Targets(tmp_path_factory.mktemp("fuzz"), made)


def fuzz(targets: Targets, name: str, rounds: int, seconds: float) -> int:
    """How many inputs were tried: ``rounds`` of 100, each of its own seed; no round begins after ``seconds``."""
    target: Callable[[bytes], None] = getattr(targets, name)
    seeds, until, tried = targets.seeds[name], time.monotonic() + seconds, 0

    def run(data: bytes) -> None:
        nonlocal tried
        tried += 1
        began = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of damaged pictures
            with contextlib.suppress(BundleError, InputError, EngineError):
                target(data)
        assert time.monotonic() - began < 20, "one input may not take so long"

    inputs = st.one_of(st.builds(spoiled, st.sampled_from(seeds), changes), st.binary(max_size=200))
    for number in range(rounds):
        if number and time.monotonic() > until:
            break
        seed(number)(settings(ROUND)(given(inputs)(run)))()
    return tried


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes(targets: Targets, name: str) -> None:
    for data in targets.seeds[name]:
        if name not in ("signature", "tflite"):  # these seeds are but nearly right
            getattr(targets, name)(data)
    assert fuzz(targets, name, 1, 10.0) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest", "tokenizer", "picture", "onnx"])
def test_any_bytes_for_longer(targets: Targets, name: str) -> None:
    assert fuzz(targets, name, 1_000_000, SECONDS) >= 100


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(text, max_size=5))
def test_any_texts_become_windows(made: dict[str, Path], texts: list[str]) -> None:
    spec = TaskSpec("classify", tiny.LABELS, 8, 2)
    preprocessor = TextPreprocessor(made["text"] / "tokenizer.json", spec)
    windows = preprocessor.windows(texts)
    assert {window.text for window in windows} == set(range(len(texts)))
    assert all(2 <= len(window.ids) <= 8 for window in windows)
