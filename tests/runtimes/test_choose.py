"""Which file load() takes: by the bundle's profiles, by a remembered calibration, by the manifest."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit
from edgekit.bundle import Bundle, Manifest, open_bundle, read_tensors, write, write_tensors
from edgekit.errors import EdgekitWarning, InputError, VerificationError
from edgekit.runtimes import isa
from edgekit.runtimes.choose import Choice, Measured, memory_of, offer, parse, recall, remember

INT8, FP32 = "models/int8.onnx", "models/fp32.onnx"


@pytest.fixture
def rewritten(small_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the small bundle with other fields in its manifest, and other content of its files."""

    def make(changes: dict[str, bytes] | None = None, **fields: Any) -> Path:
        bundle = open_bundle(small_bundle)
        files: dict[str, Path | bytes] = {one.path: small_bundle / one.path for one in bundle.manifest.files}
        target = tmp_path / "other.edge"
        write(target, Manifest.from_dict({**bundle.manifest.to_dict(), **fields}), files | (changes or {}), True)
        return target

    return make


def profile(file: str, p50: Any, threads: Any = 1, **machine: str) -> dict[str, Any]:
    environment = {**isa.machine(), **machine}
    return {"environment": environment, "threads": threads, "file": file, "engine": "onnxruntime", "p50_ms": p50}


def test_the_fastest_by_a_profile_of_this_machine(rewritten: Callable[..., Path]) -> None:
    path = rewritten(profiles=[profile(INT8, 2.0), profile(FP32, 1.5), profile(INT8, 1.0, threads=2)])
    assert edgekit.load(path, threads=1).file == FP32
    assert edgekit.load(path, threads=2).file == INT8


@pytest.mark.parametrize(
    "row",
    [
        profile(FP32, 0.1, cpu="another"),
        profile(FP32, 0.1, isa="x86_64-sse2"),
        profile(FP32, 0.1, threads=4),
        profile(FP32, "0.1"),
        profile(FP32, -1.0),
        profile(FP32, True),
        {**profile(FP32, 0.1), "engine": "openvino"},
        {**profile(FP32, 0.1), "environment": None},
        {},
    ],
)
def test_a_profile_that_says_nothing_of_this_machine(rewritten: Callable[..., Path], row: dict[str, Any]) -> None:
    assert edgekit.load(rewritten(profiles=[row]), threads=1).file == INT8


def marked(source: Path, *files: str) -> list[dict[str, Any]]:
    models = open_bundle(source).manifest.to_dict()["models"]
    return [{**model, "failed": "drop 3" if model["path"] in files else ""} for model in models]


@pytest.mark.slow
def test_a_file_that_missed_its_bound_is_the_last_resort(
    small_bundle: Path, rewritten: Callable[..., Path], recwarn: pytest.WarningsRecorder
) -> None:
    models = marked(small_bundle, INT8)
    assert edgekit.load(rewritten(models=models, profiles=[profile(INT8, 0.1)]), threads=1).file == FP32
    assert not recwarn
    assert edgekit.load(rewritten(models=models), file=INT8).file == INT8
    zeros = bytes((small_bundle / FP32).stat().st_size)
    with pytest.warns(EdgekitWarning, match=FP32):
        assert edgekit.load(rewritten({FP32: zeros}, models=models)).file == INT8


def test_golden_vectors_are_asked_before_a_file_serves(small_bundle: Path, rewritten: Callable[..., Path]) -> None:
    tensors = read_tensors(small_bundle / "golden.safetensors")
    tensors[f"outputs.{INT8}"] = -tensors[f"outputs.{INT8}"]
    path = rewritten({"golden.safetensors": write_tensors(tensors)})
    with pytest.warns(EdgekitWarning, match=r"onnxruntime serves with models/fp32\.onnx") as caught:
        assert edgekit.load(path, threads=1).file == FP32
    assert len(caught) == 1
    assert "onnxruntime (models/int8.onnx): golden vectors of models/int8.onnx" in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.raises(VerificationError, match="min cosine"):
        edgekit.load(path, file=INT8)
    assert edgekit.load(path, file=INT8, check_golden=False).run("fine")


def test_a_bundle_without_golden_vectors_loads(rewritten: Callable[..., Path]) -> None:
    assert edgekit.load(rewritten(golden={})).file == INT8


def test_names_that_the_bundle_does_not_have(small_bundle: Path) -> None:
    with pytest.raises(InputError, match="auto, or one of onnxruntime"):
        edgekit.load(small_bundle, engine="litert")
    with pytest.raises(InputError, match="models/int8"):
        edgekit.load(small_bundle, file="models/w8a8.onnx")


def test_an_engine_of_a_later_version_is_passed_over(
    small_bundle: Path, rewritten: Callable[..., Path], recwarn: pytest.WarningsRecorder
) -> None:
    models = open_bundle(small_bundle).manifest.to_dict()["models"]
    path = rewritten(models=[{**models[0], "engine": "of a later version"}, models[1]])
    assert edgekit.load(path).file == FP32
    assert not recwarn


OFFERED = [Choice(INT8, "onnxruntime"), Choice(FP32, "onnxruntime")]
MEASURED = Measured({OFFERED[0]: 1.25}, {OFFERED[1]: "it fell over"}, 2)


@pytest.fixture
def bundle(small_bundle: Path) -> Bundle:
    return open_bundle(small_bundle)


def test_what_was_measured_is_remembered(bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "choices" / "x.json"
    assert recall(place, offer(bundle)) is None
    remember(place, MEASURED)
    assert recall(place, offer(bundle)) == MEASURED
    assert [one.name for one in place.parent.iterdir()] == ["x.json"]


def test_a_place_that_cannot_be_written_is_no_fault(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    remember(tmp_path / "file" / "choices" / "x.json", MEASURED)
    (tmp_path / "folder").mkdir()
    remember(tmp_path / "folder", MEASURED)
    assert recall(tmp_path / "folder", offer(bundle)) is None


def test_a_choice_of_another_bundle_is_not_taken(bundle: Bundle, tmp_path: Path) -> None:
    remember(tmp_path / "x.json", Measured({Choice("models/other.onnx", "onnxruntime"): 1.0}))
    assert recall(tmp_path / "x.json", offer(bundle)) is None


def test_each_machine_bundle_and_limit_has_its_own_place(
    bundle: Bundle, rewritten: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    offered = offer(bundle)
    places = [memory_of(bundle, offered, 1), memory_of(bundle, offered, 2)]
    assert places[0].parent == tmp_path / "cache" / "choices"
    other = open_bundle(rewritten(name="another"))
    places.append(memory_of(other, offer(other), 1))
    for name, value in (("cpu_model", "another"), ("detect", "x86_64-sse2")):
        with monkeypatch.context() as patch:
            patch.setattr(isa, name, lambda *_, value=value: value)
            places.append(memory_of(bundle, offered, 1))
    assert len(set(places)) == 5
    copy = Path(shutil.copytree(bundle.root, tmp_path / "copy.edge"))
    assert memory_of(open_bundle(copy), offered, 1) == places[0], "the same bundle elsewhere"


GOOD = {
    "schema_version": 1,
    "tries": 2,
    "ms": [{"file": INT8, "engine": "onnxruntime", "p50_ms": 1.25}],
    "broken": [{"file": FP32, "engine": "onnxruntime", "cause": "it fell over"}],
}


def test_the_file_is_plain_json() -> None:
    assert parse(json.dumps(GOOD).encode()) == MEASURED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps(GOOD).encode()[:-3],
        json.dumps({**GOOD, "schema_version": 2}).encode(),
        json.dumps({**GOOD, "ms": {}}).encode(),
        json.dumps({**GOOD, "tries": 99}).encode(),
        json.dumps({**GOOD, "ms": [{**GOOD["ms"][0], "p50_ms": math.nan}]}).encode(),  # type: ignore[index, dict-item]
        json.dumps({**GOOD, "ms": [{**GOOD["ms"][0], "p50_ms": 0}]}).encode(),  # type: ignore[index, dict-item]
        json.dumps({**GOOD, "broken": [{**GOOD["broken"][0], "engine": 1}]}).encode(),  # type: ignore[index, dict-item]
        json.dumps(GOOD).encode() + b" " * (1 << 16),
    ],
)
def test_what_is_no_remembered_choice(data: bytes) -> None:
    assert parse(data) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), junk=JSON)
def test_any_value_anywhere_is_measured_or_nothing(data: st.DataObject, junk: Any) -> None:
    value = json.loads(json.dumps(GOOD))
    way = data.draw(st.sampled_from([["ms"], ["broken"], ["schema_version"], ["tries"], ["ms", 0], ["broken", 0], []]))
    if way:
        at = value
        for step in way[:-1]:
            at = at[step]
        key = data.draw(st.sampled_from(sorted(at[way[-1]]))) if isinstance(at[way[-1]], dict) else None
        if key is None:
            at[way[-1]] = junk
        else:
            at[way[-1]][key] = junk
    else:
        value = junk
    found = parse(json.dumps(value).encode())
    if found is not None:
        assert type(found.tries) is int
        assert all(isinstance(ms, float) and 0 < ms < 1e9 for ms in found.ms.values())
        assert all(type(part) is str for choice in {**found.ms, **found.broken} for part in choice)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_nothing(data: bytes) -> None:
    assert parse(data) is None
