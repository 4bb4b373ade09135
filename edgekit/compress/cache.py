"""Finished stages on disk, under a hash of all that went in. What is there is whole: folders appear by rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import edgekit
from edgekit.errors import InputError

_LIBRARIES = (
    *("torch", "transformers", "accelerate", "tokenizers", "onnx", "onnxruntime", "nncf", "numpy"),
    *("openvino", "litert-torch", "ai-edge-quantizer", "ai-edge-litert"),
)


def key_of(**inputs: Any) -> str:
    """A name for ``inputs`` (JSON values): the same inputs give the same name on every machine."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def code_version(packages: Iterable[str]) -> str:
    """A hash of the source of edgekit's ``packages`` and of the libraries' versions."""
    digest = hashlib.sha256()
    root = Path(str(edgekit.__file__)).parent
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    for library in _LIBRARIES:
        try:
            digest.update(f"{library}={metadata.version(library)}".encode())
        except metadata.PackageNotFoundError:
            continue
    return digest.hexdigest()[:16]


class StageCache:
    """``root``/stages/KEY/model is a stage's result, KEY/details.json its facts, KEY/gate-*.json what gates said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            (root / "stages").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cache folder {root}",
                found=str(error),
                expected="a folder that can be written",
                fix="Name another: --cache-dir or EDGEKIT_CACHE.",
            ) from None

    def folder(self, key: str) -> Path:
        """Where stage ``key`` lies, finished or not."""
        return self.root / "stages" / key

    def model(self, key: str) -> Path:
        """The model that stage ``key`` made."""
        return self.folder(key) / "model"

    def scratch(self, key: str) -> Path:
        """Checkpoints of a stage that runs; survives a kill, goes when the stage is finished."""
        path = self.root / "work" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, key: str) -> bool:
        """Whether stage ``key`` is finished."""
        return (self.folder(key) / "details.json").is_file()

    def details(self, key: str) -> dict[str, Any]:
        """What the stage said of itself."""
        found: dict[str, Any] = json.loads((self.folder(key) / "details.json").read_text("utf-8"))
        return found

    def begin(self, key: str) -> Path:
        """An empty folder for this process to write the stage's result to."""
        partial = self.folder(key).with_name(f"{key}.partial-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "model").mkdir(parents=True)
        return partial

    def finish(self, key: str, partial: Path, details: dict[str, Any]) -> None:
        """Make ``partial`` the result of stage ``key``, all at once, after it has reached the disk."""
        (partial / "details.json").write_text(json.dumps(details, indent=1), "utf-8")
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        shutil.rmtree(self.folder(key), ignore_errors=True)  # a folder without details.json is not a result
        os.replace(partial, self.folder(key))
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    def read_gate(self, key: str, question: str) -> dict[str, Any] | None:
        """What the gate said of stage ``key`` when asked ``question`` before."""
        path = self.folder(key) / f"gate-{question}.json"
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found

    def write_gate(self, key: str, question: str, record: dict[str, Any]) -> None:
        """Keep the gate's answer, atomically."""
        path = self.folder(key) / f"gate-{question}.json"
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        partial.write_text(json.dumps(record, indent=1), "utf-8")
        os.replace(partial, path)

    def sweep(self, keys: Iterable[str]) -> None:
        """Remove what only unfinished stages need: the teacher answers of ``keys`` and the results of killed runs."""
        for key in keys:
            shutil.rmtree(self.root / "work" / "answers" / key, ignore_errors=True)
        for path in (self.root / "stages").glob("*.partial-*"):
            if not _alive(int(path.name.rpartition("-")[2])):
                shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
