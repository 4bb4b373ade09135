"""A profile may come from anywhere: what is whole is read, what is not is refused with its field, nothing else."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgekit.devices import profiles
from edgekit.devices.profiles.read import MAX_BYTES
from edgekit.devices.profiles.reference import END, START, key_table, schema_text
from edgekit.devices.profiles.schema import MAX_ROWS, MAX_SAMPLES, MAX_TEXT
from edgekit.errors import InputError, ProfileError
from tests.devices.profiles.hand import OPS, SUSTAIN, profile, row


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def read(value: Any) -> dict[str, Any]:
    return profiles.read(as_bytes(value), "x.json")


def test_a_whole_profile_comes_back_with_every_key(tmp_path: Path) -> None:
    given = profile(sustain=SUSTAIN, ops=[OPS], board="pi5", target="ssh://pi@host:22")
    path = tmp_path / "small.pi5.profile.json"
    path.write_bytes(as_bytes(given))
    found = profiles.read(path)
    assert found == profiles.read(str(path)) == profiles.read(path.read_bytes())
    assert found["rows"][0]["samples_ms"] == given["rows"][0]["samples_ms"]
    assert found["rows"][0]["energy_mj"] is None and found["rows"][0]["cpu_ms"] is None
    assert found["verified"] is None and found["failed"] == [] and found["environment"]["os"] is None
    assert found["sustain"]["series"]["frequency_mhz"] is None
    assert found["ops"][0]["rows"][0]["op"] == "MatMul"


def test_the_least_that_is_a_profile() -> None:
    least = {"engine": "litert-web", "file": "models/a.tflite", "threads": 1, "p50_ms": 3, "rss_mb": None}
    found = read({"schema_version": 1, "bundle": "b", "environment": {}, "rows": [least]})
    assert (found["target"], found["basis"], found["ops"], found["sustain"]) == ("local", "measured", [], None)
    assert found["rows"][0]["batch"] == 1 and found["rows"][0]["length"] is None
    assert found["rows"][0]["p50_ms"] == 3


def test_keys_that_are_not_known_are_kept() -> None:
    found = read(profile(row(threads_in_use=2), page_bytes=12345))
    assert found["page_bytes"] == 12345
    assert found["rows"][0]["threads_in_use"] == 2


def test_no_time_of_an_emulation_is_read() -> None:
    given = profile(row(instructions_m=12.5, utilisation=0.9, cpu_ms=1.0), basis="emulated", sustain=SUSTAIN, ops=[OPS])
    found = read(given)
    (only,) = found["rows"]
    assert {key for key in only if key.endswith("_ms") and only[key]} == set()
    assert only["utilisation"] is None and only["instructions_m"] == 12.5 and only["rss_mb"] == 80.5
    assert found["sustain"] is None and found["ops"] == []
    least = {"engine": "onnxruntime", "file": "a", "threads": 1}
    assert read(profile(least, basis="emulated"))["rows"][0]["p50_ms"] is None


def changed(*path: Any, to: Any) -> dict[str, Any]:
    value = copy.deepcopy(profile(sustain=SUSTAIN, ops=[OPS]))
    inner: Any = value
    for key in path[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (changed("rows", to=...), "x.json: rows; found nothing"),
        (changed("rows", 0, "engine", to=...), "x.json: rows[0].engine; found nothing"),
        (changed("rows", 0, "p50_ms", to="1"), "x.json: rows[0].p50_ms; found '1'"),
        (changed("rows", 0, "p50_ms", to=-1), "rows[0].p50_ms; found -1"),
        (changed("rows", 0, "p50_ms", to=None), "rows[0].p50_ms is missing from a measured profile"),
        (changed("rows", 0, "threads", to=True), "rows[0].threads; found True"),
        (changed("rows", 0, "threads", to=1.5), "rows[0].threads; found 1.5"),
        (changed("rows", 0, "samples_ms", 4, to="x"), "rows[0].samples_ms[4]; found 'x'"),
        (changed("rows", 0, "file", to=7), "rows[0].file; found 7"),
        (changed("rows", to=[row()] * (MAX_ROWS + 1)), "x.json: rows; found"),
        (changed("rows", 0, "samples_ms", to=[1.0] * (MAX_SAMPLES + 1)), "rows[0].samples_ms; found 100001 entries"),
        (changed("basis", to="guessed"), "x.json: basis; found 'guessed'"),
        (changed("bundle", to="a" * (MAX_TEXT + 1)), "x.json: bundle; found 'aaa"),
        (changed("bundle", to="\x1b[2J"), "printable text"),
        (changed("bundle", to="\ud800"), "printable text"),
        (changed("anything", to={"deep": {"\x07": 1}}), "x.json: anything.deep: a key"),
        (changed("environment", "memory_mb", to=1e300), "environment.memory_mb; found 1e+300"),
        (changed("environment", "newer", to=10**20), "environment.newer; found 1000"),
        (changed("sustain", "series", "p50_ms", to=[1.0]), "p50_ms has 1 entries, t_s has 2"),
        (changed("ops", 0, "rows", 0, "share", to=7.0), "ops[0].rows[0].share; found 7.0"),
        (changed("bundle_sha256", to="abc"), "x.json: bundle_sha256"),
        (changed("schema_version", to=2), "schema_version; found 2; expected 1. A newer edgekit"),
        (changed("schema_version", to=True), "schema_version; found True"),
        (changed("schema_version", to=...), "schema_version; found nothing"),
        ([1], "x.json; found [1]; expected an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(value: Any, told: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read(value)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert isinstance(caught.value, InputError) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"{",
        b"{} {}",
        b'{"schema_version": NaN}',
        b'{"schema_version": 1, "schema_version": 1}',
        b'{"schema_version": 1, "a": 1e999}',
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"[" * 90_000,
        b"[" * 90_000 + b"]" * 90_000,
        b"[[],[],[]]" * 50_000,
        b'{"a": "' + b"x" * MAX_BYTES + b'"}',
        b'["",' * 600_000,
    ],
    ids=lambda data: f"{data[:12]!r}-{len(data)}",
)
def test_bytes_that_are_no_profile(data: bytes) -> None:
    with pytest.raises(ProfileError, match=r"^x\.json"):
        profiles.read(data, "x.json")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"absent\.json cannot be read; found No such file"):
        profiles.read(tmp_path / "absent.json")
    with pytest.raises(ProfileError, match="folder"):
        profiles.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ProfileError, match=r"pipe\.json.*not a plain file"):
        profiles.read(tmp_path / "pipe.json")
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ProfileError, match=r"large\.json; found more than"):
        profiles.read(tmp_path / "large.json")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    ("bundle",), ("environment",), ("environment", "cpu"), ("environment", "versions"), ("rows",), ("rows", 0),
    ("rows", 0, "threads"), ("rows", 0, "samples_ms"), ("rows", 0, "p50_ms"), ("rows", 0, "more"), ("sustain",),
    ("sustain", "series"), ("sustain", "series", "t_s"), ("ops",), ("ops", 0, "rows", 0, "op"), ("failed",),
    ("verified",), ("choice",), ("created",), ("schema_version",), ("model_config",), ("__class__",),
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from(PATHS), value=ANY)
@example(path=("model_config",), value={"extra": "forbid"})
def test_any_value_anywhere_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    try:
        found = read(changed(*path, to=value))
    except ProfileError:
        return
    assert read(found) == found, "what was read can be written and read again"
    assert {"rows", "environment", "ops", "sustain"} <= set(found)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 40))
def test_damaged_bytes_are_read_or_refused(put: bytes, at: int, cut: int) -> None:
    whole = as_bytes(profile(sustain=SUSTAIN, ops=[OPS]))
    at %= len(whole)
    with contextlib.suppress(ProfileError):
        profiles.read(whole[:at] + put + whole[at + cut :])


def test_the_published_schema_and_table_are_up_to_date(root: Path) -> None:
    fix = "run `python -m edgekit.devices.profiles docs`"
    assert (root / "docs/profile.schema.json").read_text(encoding="utf-8") == schema_text(), fix
    page = (root / "docs/profile.md").read_text(encoding="utf-8")
    assert f"{START}\n{key_table()}\n{END}" in page, fix
    assert json.loads(schema_text())["properties"]["schema_version"]["const"] == 1
