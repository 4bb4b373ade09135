"""A model on its way into a bundle: a folder with the model file of one engine, its tokenizer and its task."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekit.bundle.records import TaskSpec
from edgekit.errors import ModelError
from edgekit.runtimes import engines
from edgekit.runtimes.model import Model

NAME = "artifact.json"
# engine -> files that its model consists of; the engine is given the first
FILES = {
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "litert": ("model.tflite",),
    "tflite-runtime": ("model.tflite",),
}


@dataclass(frozen=True)
class Artifact:
    """What artifact.json says: the engine that the file is for, and its precision."""

    engine: str
    precision: str

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the model's files in the folder, the main one first."""
        return FILES[self.engine]


def write(folder: Path, spec: TaskSpec, engine: str, precision: str) -> None:
    """artifact.json and task.json: what a stage after this one must know of ``folder``."""
    (folder / "task.json").write_text(json.dumps(spec.to_dict(), indent=1, sort_keys=True) + "\n", "utf-8")
    about = asdict(Artifact(engine, precision))
    (folder / NAME).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", "utf-8")


def is_artifact(folder: Path) -> bool:
    """Whether ``folder`` holds an engine's file (else it is a torch model)."""
    return (folder / NAME).is_file()


def read(folder: Path) -> Artifact:
    """artifact.json of ``folder``. Raises ModelError for an engine that this version does not know."""
    about = json.loads((folder / NAME).read_text("utf-8"))
    if about.get("engine") not in FILES:
        raise ModelError(f"{folder / NAME}: engine", found=repr(about.get("engine")), expected=", ".join(FILES))
    return Artifact(about["engine"], about["precision"])


def read_spec(folder: Path) -> TaskSpec:
    """task.json of ``folder``."""
    spec: TaskSpec = TaskSpec.from_dict(json.loads((folder / "task.json").read_text("utf-8")), "task.json")
    return spec


def load(folder: Path, threads: int | None = None, file: str = "") -> Model:
    """The model in ``folder`` in its engine, or in another that reads its files where that one is not installed.

    ``file``: the name to go by. Errors as in Model.from_files.
    """
    about = read(folder)
    able = [engine for engine in engines.readers(about.engine) if engines.installed(engine)]
    return Model.from_files(
        folder / about.files[0],
        folder / "tokenizer.json",
        read_spec(folder),
        engine=able[0] if able else about.engine,
        precision=about.precision,
        threads=threads,
        file=file,
    )


def size_bytes(folder: Path) -> int:
    """Bytes on disk of the files that an answer needs: the model and its tokenizer."""
    return sum((folder / name).stat().st_size for name in (*read(folder).files, "tokenizer.json"))
