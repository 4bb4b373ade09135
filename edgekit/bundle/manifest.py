"""manifest.json: bytes to :class:`Manifest` and back, with every abuse refused by name."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

import numpy as np

from edgekit.bundle import limits
from edgekit.bundle.records import SCHEMA_VERSION, Manifest
from edgekit.errors import BundleError, InputError

NAME = "manifest.json"
SIGNATURE = "signature.json"  # optional, beside it; both are listed by no manifest
MAX_BYTES = 16 << 20
MAX_DEPTH = 64  # of lists and objects in each other
_STRING = re.compile(rb'"[^"]*"?')
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_OPENING = np.frombuffer(b"[{", np.uint8)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse(data: bytes, where: str = NAME) -> Manifest:
    """Read a manifest. Raises ``BundleError`` naming the file and the field for anything that is not one."""
    value = load_json(data, where, MAX_BYTES)
    if not isinstance(value, dict):
        raise BundleError(where, found=type(value).__name__, expected="a JSON object")
    version = value.get("schema_version")
    if type(version) is not int or version < 1:
        raise BundleError(f"{where}: schema_version", found=repr(version)[:40], expected=f"1 to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{where}: schema_version",
            found=str(version)[:40],
            expected=f"at most {SCHEMA_VERSION}",
            fix="This bundle was made by a newer edgekit: upgrade with pip install -U edgekit.",
        )
    manifest: Manifest = Manifest.from_dict(value, where)
    limits.check(manifest.files, where)
    listed: dict[str, str] = {}
    for entry in manifest.files:
        check_path(entry.path, f"{where}: files")
        if entry.path.lower() in (NAME, SIGNATURE):
            raise BundleError(
                f"{where}: files", found=entry.path, expected="every file but the manifest and its signature"
            )
        if listed.setdefault(entry.path.lower(), entry.path) and not _SHA256.fullmatch(entry.sha256):
            raise BundleError(f"{where}: sha256 of {entry.path}", found=entry.sha256[:70], expected="64 hex digits")
        if entry.bytes < 0:
            raise BundleError(f"{where}: bytes of {entry.path}", found=entry.bytes, expected="0 or more")
    if len(listed) != len(manifest.files):
        raise BundleError(f"{where}: files", expected="each path once, capitals aside")
    needed = ["tokenizer.json"] if manifest.needs_tokenizer else []
    needed += [path for model in manifest.every_model for path in (model.path, *model.parts)]
    if manifest.golden:
        needed.append("golden.safetensors")
    paths = {entry.path for entry in manifest.files}
    for path in needed:
        if path not in paths:
            raise BundleError(f"{where}: files", found=f"no {path!r:.80}", expected="its size and sha256")
    return manifest


def dump(manifest: Manifest) -> bytes:
    """UTF-8 JSON. Raises ``InputError`` for NaN, infinity or a value that JSON has no word for."""
    try:
        text = json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False, allow_nan=False, default=_plain)
        return (text + "\n").encode()
    except (ValueError, TypeError, UnicodeEncodeError) as error:
        raise InputError(f"{NAME} cannot be written", found=str(error)) from None


def load_json(data: bytes, where: str, limit: int) -> Any:
    """Strict JSON: UTF-8, no duplicate keys, no NaN, bounded size and depth. Raises ``BundleError``."""
    if len(data) > limit:
        raise BundleError(where, found=f"{len(data)} bytes", expected=f"at most {limit}")
    deep = _depth(data)
    if deep > MAX_DEPTH:
        raise BundleError(where, found=f"JSON {deep} levels deep", expected=f"at most {MAX_DEPTH}")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            twice = next(key for key, times in Counter(key for key, _ in items).items() if times > 1)
            raise BundleError(where, found=f"the key {twice!r:.60} twice in one object", expected="each key once")
        return found

    def constant(word: str) -> NoReturn:
        raise BundleError(where, found=word, expected="finite numbers")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise BundleError(where, found=f"bytes that are not UTF-8 at {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not valid JSON", found=str(error)[:120], expected="a whole file") from None


def _depth(data: bytes) -> int:
    """How deep brackets stand in each other, without parsing: the parser recurses, so it must not see a deep one.

    Up to the first error of a malformed text the brackets counted are those that a parser meets; after it, it is gone.
    """
    bare = data.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, delete=_NOT_STRUCTURE)
    marks = np.frombuffer(_STRING.sub(b"", bare), np.uint8)
    steps = np.isin(marks, _OPENING).astype(np.int64) * 2 - 1
    return int(np.cumsum(steps).max(initial=0))


def check_path(path: str, where: str) -> None:
    """A plain relative POSIX path that stays inside the bundle. Raises ``BundleError`` otherwise."""
    parts = path.split("/")
    plain = path.isprintable() and not set(path) & set('\\:*?"<>|') and len(path.encode("utf-8", "replace")) <= 255
    if not plain or any(part in ("", ".", "..") or part.endswith((".", " ")) for part in parts):
        raise BundleError(
            where, found=f"the path {path!r:.80}", expected="a relative path inside the bundle, parts divided by /"
        )


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")
