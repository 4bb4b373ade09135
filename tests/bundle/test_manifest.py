"""The manifest: round trip, strict types, tolerance of what is new, and fuzzing."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bundle import FileEntry, Manifest, ModelFile, StageRecord, TaskSpec
from edgekit.bundle.manifest import check_path, dump, parse
from edgekit.errors import BundleError, EdgekitError, InputError

ENTRIES = [FileEntry("models/a.onnx", "a" * 64, 1), FileEntry("tokenizer.json", "b" * 64, 2)]
STAGE = StageRecord("distill", True, "passed", "accuracy", 0.9, 0.88, 0.92, 500, candidates=[{"name": "x", "ms": 1.5}])
MANIFEST = Manifest(
    name="sentiment",
    created="2025-01-01T00:00:00Z",
    edgekit_version="0.1.0",
    task=TaskSpec("classify", ["negative", "naïve 日本"], 128, 32),
    models=[ModelFile("models/a.onnx", "onnxruntime", "w8a8")],
    files=ENTRIES,
    stages=[STAGE],
    budget={"met": True},
)


def plain() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dump(MANIFEST))
    return found


def test_round_trip() -> None:
    assert parse(dump(MANIFEST)) == MANIFEST
    assert dump(parse(dump(MANIFEST))) == dump(MANIFEST)


def test_numpy_numbers_become_plain_and_nan_is_refused() -> None:
    stage = StageRecord("s", True, "r", "m", details={"a": np.float32(0.5), "b": np.int64(3)})
    assert json.loads(dump(Manifest("n", "c", "v", MANIFEST.task, MANIFEST.models, stages=[stage])))["stages"][0][
        "details"
    ] == {"a": 0.5, "b": 3}
    for bad in (float("nan"), float("inf"), object(), np.zeros(2)):
        with pytest.raises(InputError, match=r"manifest\.json"):
            dump(Manifest("n", "c", "v", MANIFEST.task, MANIFEST.models, budget={"x": bad}))


def test_unknown_keys_are_ignored_everywhere() -> None:
    value = plain()
    for holder in (value, value["task"], value["models"][0], value["stages"][0], value["files"][0]):
        holder["of_a_later_version"] = {"any": [1, None]}
    assert parse(json.dumps(value).encode()) == MANIFEST


def test_optional_fields_may_be_absent() -> None:
    value = plain()
    for key in ("stages", "budget", "environment", "teacher", "licences", "golden", "profiles", "data"):
        value.pop(key)
    assert parse(json.dumps(value).encode()).stages == []


@pytest.mark.parametrize(
    ("path", "bad", "named"),
    [
        ("name", 3, "name"),
        ("task", [], "task"),
        ("task.task", "translate", "task"),
        ("task.labels", [], "labels"),
        ("task.labels", ["a", 1], "labels[1]"),
        ("task.max_length", 128.5, "max_length"),
        ("task.max_length", True, "max_length"),
        ("task.max_length", 10**30, "max_length"),
        ("task.stride", 65, "stride"),
        ("task.stride", -1, "stride"),
        ("task.pad_id", -1, "pad_id"),
        ("task.aggregation", "the first window", "aggregation"),
        ("models", [], "models"),
        ("models", {}, "models"),
        ("models.0.path", "models/b.onnx", "models/b.onnx"),
        ("models.0.inputs", "input_ids", "inputs"),
        ("models.0.parts", ["models/a.bin"], "models/a.bin"),
        ("models.0.parts", "tokenizer.json", "parts"),
        ("models.0.failed", True, "failed"),
        ("parity", {}, "parity"),
        ("stages.0.value", "high", "value"),
        ("stages.0.value", 10**400, "value"),
        ("files.0.sha256", "A" * 64, "models/a.onnx"),
        ("files.0.sha256", "a" * 63, "models/a.onnx"),
        ("files.0.bytes", -1, "models/a.onnx"),
        ("files.0.path", "TOKENIZER.json", "each path once"),
        ("files.0.path", "manifest.json", "manifest"),
        ("files.0.path", "../a.onnx", "../a.onnx"),
        ("golden", {"file": "golden.safetensors"}, "golden.safetensors"),
        ("schema_version", 2, "newer edgekit"),
        ("schema_version", 0, "schema_version"),
        ("schema_version", "1", "schema_version"),
        ("schema_version", True, "schema_version"),
    ],
)
def test_each_wrong_field_is_named(path: str, bad: object, named: str) -> None:
    value = plain()
    at: Any = value
    *way, last = path.split(".")
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[last] = bad
    with pytest.raises(BundleError, match=r"manifest\.json") as caught:
        parse(json.dumps(value).encode())
    assert named in str(caught.value)


@pytest.mark.parametrize("key", ["name", "created", "task", "models", "schema_version"])
def test_missing_fields_are_named(key: str) -> None:
    value = plain()
    value.pop(key)
    with pytest.raises(BundleError, match=key):
        parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe{}",
        dump(MANIFEST)[:-10],
        dump(MANIFEST).replace(b'"name"', b'"name": "x", "name"', 1),
        b'{"schema_version": NaN}',
        b"[" * 200_000,
        b'{"schema_version": ' + b"9" * 10_000 + b"}",
        b" " * ((16 << 20) + 1),
    ],
)
def test_what_is_not_a_manifest(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        parse(data)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "C:x",
        "a\0b",
        "a\nb",
        "a" * 256,
        "a/.",
        "a. ",
    ],
)
def test_paths_that_could_leave(path: str) -> None:
    with pytest.raises(BundleError, match="path"):
        check_path(path, "files")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(p for key, inner in items for p in places(inner, (*way, key)))]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), junk=JSON)
def test_any_value_anywhere_gives_a_manifest_or_a_typed_error(data: st.DataObject, junk: Any) -> None:
    value = plain()
    way = data.draw(st.sampled_from(places(value)))
    if not way:
        value = junk
    else:
        at: Any = value
        for step in way[:-1]:
            at = at[step]
        at[way[-1]] = junk
    with contextlib.suppress(EdgekitError):
        parse(json.dumps(value).encode())


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_typed_error(data: bytes) -> None:
    with pytest.raises(EdgekitError):
        parse(data)
