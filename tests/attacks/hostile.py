"""Named ways to spoil a bundle, each with the typed error that it must give and words of its message."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import BundleError, EdgekitError, EngineError
from tests.attacks.tiny import edit, manifest_of, reseal

Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """``spoil`` a bundle folder; loading it then raises exactly ``error`` with ``words`` in its message."""

    name: str
    spoil: Spoil
    words: tuple[str, ...]
    error: type[EdgekitError] = BundleError


CASES: list[Case] = []


def case(*words: str, error: type[EdgekitError] = BundleError) -> Callable[[Spoil], Spoil]:
    def keep(spoil: Spoil) -> Spoil:
        CASES.append(Case(spoil.__name__, spoil, words, error))
        return spoil

    return keep


def manifest_case(name: str, change: Callable[[dict[str, Any]], object], *words: str) -> None:
    CASES.append(Case(name, lambda root: edit(root, change), ("manifest.json", *words)))


def bytes_case(name: str, change: Callable[[bytes], bytes], *words: str) -> None:
    def spoil(root: Path) -> None:
        (root / "manifest.json").write_bytes(change((root / "manifest.json").read_bytes()))

    CASES.append(Case(name, spoil, ("manifest.json", *words)))


def model(root: Path) -> Path:
    return root / manifest_of(root)["models"][0]["path"]


def of(value: dict[str, Any], path: str) -> dict[str, Any]:
    """The entry of ``path`` in a manifest."""
    entry: dict[str, Any] = next(entry for entry in value["files"] if entry["path"] == path)
    return entry


def many(value: dict[str, Any], count: int, size: int) -> None:
    value["files"] = [value["files"][0] | {"path": f"f{i}", "bytes": size} for i in range(count)]


# Paths that lead elsewhere, or look as if they did not.
PATHS = {
    "parent": "../outside.onnx",
    "absolute": "/etc/passwd",
    "parent in the middle": "models/../../x.onnx",
    "backslash": "models\\..\\..\\x.onnx",
    "drive": "C:/x.onnx",
    "nul": "models/a\0b.onnx",
    "newline": "models/a\nb.onnx",
    "dot": "./x.onnx",
    "empty part": "models//x.onnx",
    "empty": "",
    "trailing dot": "models./x.onnx",
    "trailing space": "models/x.onnx ",
    "home": "~/x.onnx\x7f",
    "right to left": "models/\u202exnno.x",
    "zero width": "models/\u200b../x.onnx",
    "half of a surrogate pair": "models/\ud800.onnx",
    "wildcard": "models/*.onnx",
    "long": "m/" * 150 + "x.onnx",
}
for _name, _path in PATHS.items():
    manifest_case(
        f"path: {_name}", lambda value, path=_path: value["files"][0].update(path=path), "the path", "inside the bundle"
    )
for _name, _path in {"fullwidth dots": "．．/x.onnx", "below a file": "tokenizer.json/x"}.items():
    CASES.append(
        Case(
            f"path: {_name}",
            lambda root, path=_path: edit(root, lambda v: v["files"].append(v["files"][0] | {"path": path})),
            ("is missing",),
        )
    )
for _name in ("manifest.json", "signature.json", "Manifest.JSON"):
    manifest_case(
        f"path: {_name} lists itself",
        lambda value, path=_name: value["files"].append(value["files"][0] | {"path": path}),
        "every file but the manifest",
    )
manifest_case(
    "path: twice but for capitals",
    lambda v: v["files"].append(v["files"][0] | {"path": v["files"][0]["path"].upper()}),
    "each path once",
)
manifest_case("path: the same twice", lambda v: v["files"].append(dict(v["files"][0])), "each path once")

# JSON.
bytes_case("json: key twice", lambda d: d.replace(b'"task"', b'"task": {}, "task"', 1), "twice")
bytes_case("json: key twice inside", lambda d: d.replace(b'"sha256"', b'"sha256": "", "sha256"', 1), "twice")
bytes_case("json: escaped key twice", lambda d: d.replace(b'"task"', b'"\\u0074ask": {}, "task"', 1), "twice")
bytes_case("json: NaN", lambda d: d.replace(b'"schema_version": 1', b'"schema_version": NaN', 1), "NaN")
bytes_case("json: infinity", lambda d: d.replace(b'"name"', b'"x": -Infinity, "name"', 1), "Infinity")
bytes_case("json: not UTF-8", lambda d: d.replace(b'"name": "', b'"name": "\xff\xfe', 1), "UTF-8")
bytes_case("json: UTF-16", lambda d: d.decode().encode("utf-16"), "UTF-8")
bytes_case("json: byte order mark", lambda d: b"\xef\xbb\xbf" + d, "not valid JSON")
bytes_case("json: truncated", lambda d: d[: len(d) // 2], "not valid JSON")
bytes_case("json: nothing", lambda d: b"", "not valid JSON")
bytes_case("json: more behind it", lambda d: d + b"{}", "not valid JSON")
bytes_case("json: a list", lambda d: b"[" + d + b"]", "a JSON object")
bytes_case("json: lists in lists", lambda d: b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "deep")
bytes_case("json: objects in objects", lambda d: b'{"a":' * 10**6, "deep")
bytes_case("json: brackets behind an escaped quote", lambda d: b'{"a\\\\":' + b"[" * 10**5, "deep")
bytes_case("json: an integer of 100,000 digits", lambda d: b'{"schema_version": ' + b"9" * 100_000 + b"}", "JSON")
bytes_case("json: over 16 MiB", lambda d: d + b" " * (16 << 20), "at most")

# What the manifest states.
manifest_case("schema: future", lambda v: v.update(schema_version=2), "newer edgekit")
manifest_case("schema: far future", lambda v: v.update(schema_version=10**30), "newer edgekit")
manifest_case("schema: before the first", lambda v: v.update(schema_version=0), "schema_version")
manifest_case("schema: true", lambda v: v.update(schema_version=True), "schema_version")
manifest_case("schema: a text", lambda v: v.update(schema_version="1"), "schema_version")
manifest_case("schema: none", lambda v: v.pop("schema_version"), "schema_version")
manifest_case("field: another type", lambda v: v.update(models={}), "models", "a list")
manifest_case("field: missing", lambda v: v.pop("task"), "task")
manifest_case("field: no model", lambda v: v.update(models=[]), "models")
manifest_case("field: release below 0", lambda v: v.update(release=-1), "release")
manifest_case("field: release without end", lambda v: v.update(release=1 << 80), "release")
manifest_case("size: negative", lambda v: v["files"][0].update(bytes=-1), "0 or more")
manifest_case("size: a fraction", lambda v: v["files"][0].update(bytes=1.5), "an integer")
manifest_case("size: 2^70", lambda v: v["files"][0].update(bytes=1 << 70), "at most")
manifest_case("size: a file of 9 GiB", lambda v: of(v, v["models"][0]["path"]).update(bytes=9 << 30), "at most")
manifest_case(
    "size: a tokenizer of 2 GiB", lambda v: of(v, "tokenizer.json").update(bytes=2 << 30), "tokenizer.json", "at most"
)
manifest_case("size: 20,000 files", lambda v: many(v, 20_000, 1), "20000 of them", "at most")
manifest_case("size: 4,000 files of 1 GiB", lambda v: many(v, 4000, 1 << 30), "together")
manifest_case("hash: capitals", lambda v: v["files"][0].update(sha256="A" * 64), "64 hex digits")
manifest_case("hash: short", lambda v: v["files"][0].update(sha256="ab"), "64 hex digits")
manifest_case("labels: 100,000", lambda v: v["task"].update(labels=["x"] * 10**5), "labels", "at most")
manifest_case("labels: one of 2 MB", lambda v: v["task"].update(labels=["x" * 2_000_000]), "labels", "at most")
manifest_case("task: unknown", lambda v: v["task"].update(task="shell"), "task")
manifest_case("task: a window of 2^40 tokens", lambda v: v["task"].update(max_length=1 << 40), "max_length")
manifest_case("task: a negative padding token", lambda v: v["task"].update(pad_id=-1), "pad_id")
manifest_case("model: not listed", lambda v: v["files"].remove(of(v, v["models"][0]["path"])), "its size and sha256")
manifest_case("golden: not an object", lambda v: v.update(golden=[1]), "golden")


# The folder.
@case("symbolic link")
def link_to_a_file_outside(root: Path) -> None:
    shutil.move(model(root), root.parent / "outside")
    (root / manifest_of(root)["models"][0]["path"]).symlink_to(root.parent / "outside")


@case("symbolic link")
def link_to_a_file_inside(root: Path) -> None:
    (root / "golden.safetensors").unlink()
    (root / "golden.safetensors").symlink_to("tokenizer.json")


@case("symbolic link")
def link_to_a_folder(root: Path) -> None:
    shutil.move(root / "models", root.parent / "models")
    (root / "models").symlink_to(root.parent / "models")


@case("manifest.json", "symbolic link")
def link_to_a_manifest(root: Path) -> None:
    shutil.move(root / "manifest.json", root.parent / "m.json")
    (root / "manifest.json").symlink_to(root.parent / "m.json")


@case("signature.json", "symbolic link")
def link_to_a_signature(root: Path) -> None:
    (root / "signature.json").unlink(missing_ok=True)
    (root / "signature.json").symlink_to("/dev/zero")


@case("special file")
def pipe_as_a_model(root: Path) -> None:
    path = model(root)
    path.unlink()
    os.mkfifo(path)


@case("manifest.json", "special file")
def pipe_as_a_manifest(root: Path) -> None:
    (root / "manifest.json").unlink()
    os.mkfifo(root / "manifest.json")


@case("signature.json", "special file")
def pipe_as_a_signature(root: Path) -> None:
    (root / "signature.json").unlink(missing_ok=True)
    os.mkfifo(root / "signature.json")


@case("extra special file")
def pipe_beside(root: Path) -> None:
    os.mkfifo(root / "models/pipe")


@case("extra special file")
def socket_beside(root: Path) -> None:
    here = os.getcwd()
    os.chdir(root)  # a socket's path may have 108 characters only
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("s")
    finally:
        os.chdir(here)


@case("special file")
def device_as_a_tokenizer(root: Path) -> None:
    (root / "tokenizer.json").unlink()
    try:
        os.mknod(root / "tokenizer.json", 0o20666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root may make devices")


@case("folder")
def folder_as_a_file(root: Path) -> None:
    (root / "tokenizer.json").unlink()
    (root / "tokenizer.json").mkdir()


@case("manifest.json", "folder")
def folder_as_a_manifest(root: Path) -> None:
    (root / "manifest.json").unlink()
    (root / "manifest.json").mkdir()


@case("extra file")
def extra_file(root: Path) -> None:
    (root / "models/libextra.so").write_bytes(b"\x7fELF")


@case("extra file")
def extra_hidden_file(root: Path) -> None:
    (root / ".hidden").write_bytes(b"")


@case("extra folder")
def extra_folder(root: Path) -> None:
    (root / "__pycache__").mkdir()


@case("extra file", "\\udcff")
def extra_file_whose_name_is_not_utf8(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/x\xff\n")).write_bytes(b"x")


@case("tokenizer.json", "missing")
def missing_file(root: Path) -> None:
    (root / "tokenizer.json").unlink()


@case("cannot be read")
def missing_manifest(root: Path) -> None:
    (root / "manifest.json").unlink()


# Contents.
@case("truncated")
def truncated_model(root: Path) -> None:
    os.truncate(model(root), model(root).stat().st_size // 2)


@case("truncated")
def empty_file(root: Path) -> None:
    os.truncate(root / "golden.safetensors", 0)


@case("damaged")
def file_that_grew_without_end(root: Path) -> None:
    os.truncate(root / "tokenizer.json", 1 << 40)  # takes no room on the disk


@case("sha256 is not the manifest's")
def other_bytes_of_the_same_size(root: Path) -> None:
    size = model(root).stat().st_size
    model(root).write_bytes(b"\0" * size)


@case("sha256 is not the manifest's")
def two_files_that_changed_places(root: Path) -> None:
    """Of equal size, so that only the hashes tell."""
    one, other = root / "tokenizer.json", root / "golden.safetensors"
    size = max(one.stat().st_size, other.stat().st_size)
    for path in (one, other):
        path.write_bytes(path.read_bytes().ljust(size))
    reseal(root)
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])


@case("no engine runs", error=EngineError)
def bytes_that_are_no_model(root: Path) -> None:
    model(root).write_bytes(b"not a model")
    reseal(root)
