"""A model on its way into a bundle: a folder with the model files of one engine, their tokenizer and their task."""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bundle import ModelFile
from edgekit.bundle.dual import Tower
from edgekit.bundle.record import SPARE, Record
from edgekit.bundle.records import TaskSpec
from edgekit.errors import ModelError
from edgekit.runtimes import engines
from edgekit.runtimes.model import Model
from edgekit.runtimes.prompts import NAME as PROMPTS

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel

NAME = "artifact.json"
TOKENIZER = "tokenizer.json"
TOWERS = ("image", "text")
# engine -> files that its model consists of; the engine is given the first
FILES = {
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "litert": ("model.tflite",),
    "tflite-runtime": ("model.tflite",),
}


@dataclass(frozen=True)
class Artifact(Record):
    """What artifact.json says: the engine that the files are for, and their precision.

    ``towers``, of a dual encoder: "image" and, unless it is left out, "text", each with its own
    ``precision``, its ``inputs`` and its ``output``. A tower's files lie in a folder of its name.
    """

    engine: str
    precision: str
    towers: dict[str, Any] = field(default_factory=dict, metadata=SPARE)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the model's files in the folder, the main one (the image tower's) first."""
        own = FILES[self.engine]
        return tuple(f"{name}/{file}" for name in self._names for file in own) if self.towers else own

    def tower(self, name: str) -> Tower | None:
        """The tower "image" or "text", its path from the folder; None where there is none. Raises ``BundleError``."""
        if name not in self.towers:
            return None
        value = self.towers[name]
        path = {"path": f"{name}/{FILES[self.engine][0]}"}
        found: Tower = Tower.from_dict({**value, **path} if isinstance(value, dict) else value, f"{NAME}: {name}")
        return found

    def each_tower(self) -> dict[str, Tower]:
        """All towers, the image's first. Raises ``BundleError``."""
        return {name: one for name in TOWERS if (one := self.tower(name)) is not None}

    @property
    def _names(self) -> list[str]:
        return [name for name in TOWERS if name in self.towers]


def write(
    folder: Path,
    spec: TaskSpec,
    engine: str,
    precision: str,
    towers: Mapping[str, Tower | Mapping[str, Any]] | None = None,
) -> None:
    """artifact.json and task.json: what a stage after this one must know of ``folder``. ``towers``: see Artifact."""
    found = {name: one.to_dict() if isinstance(one, Tower) else dict(one) for name, one in (towers or {}).items()}
    for one in found.values():
        one.pop("path", None)  # it follows from the engine
    (folder / "task.json").write_text(json.dumps(spec.to_dict(), indent=1, sort_keys=True) + "\n", "utf-8")
    about = Artifact(engine, precision, found).to_dict()
    (folder / NAME).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", "utf-8")


def is_dual(folder: Path) -> bool:
    """Whether ``folder`` holds the towers of a dual encoder for an engine."""
    return is_artifact(folder) and bool(read(folder).towers)


def is_artifact(folder: Path) -> bool:
    """Whether ``folder`` holds an engine's file (else it is a torch model)."""
    return (folder / NAME).is_file()


def read(folder: Path) -> Artifact:
    """artifact.json of ``folder``. Raises ModelError for an engine that this version does not know, BundleError."""
    about: Artifact = Artifact.from_dict(json.loads((folder / NAME).read_text("utf-8")), str(folder / NAME))
    if about.engine not in FILES:
        raise ModelError(f"{folder / NAME}: engine", found=repr(about.engine), expected=", ".join(FILES))
    if about.towers and "image" not in about.towers:
        raise ModelError(f"{folder / NAME}: towers", found=", ".join(about.towers), expected="image, and perhaps text")
    return about


def read_spec(folder: Path) -> TaskSpec:
    """task.json of ``folder``."""
    spec: TaskSpec = TaskSpec.from_dict(json.loads((folder / "task.json").read_text("utf-8")), "task.json")
    return spec


def load(folder: Path, threads: int | None = None, file: str = "", like: str = "") -> Model | DualModel:
    """The model in ``folder`` in its engine, or in another that reads its files where that one is not installed.

    ``file``, ``like``: the names to go by, see :func:`sources`. Errors as in Model.from_files, and for towers as in
    ``towers.from_files``.
    """
    about = read(folder)
    able = [engine for engine in engines.readers(about.engine) if engines.installed(engine)]
    engine = able[0] if able else about.engine
    if about.towers:
        return _load_towers(folder, about, engine, threads, file, like)
    return Model.from_files(
        folder / about.files[0],
        folder / TOKENIZER,
        read_spec(folder),
        engine=engine,
        precision=about.precision,
        threads=threads,
        file=file,
    )


def load_text(folder: Path, threads: int | None = None, file: str = "") -> Model:
    """As :func:`load`, of a model of texts. Raises ModelError for a dual encoder."""
    found = load(folder, threads, file)
    if not isinstance(found, Model):
        raise ModelError(str(folder / NAME), found="a dual encoder", expected="a model of texts")
    return found


def _load_towers(folder: Path, about: Artifact, engine: str, threads: int | None, file: str, like: str) -> DualModel:
    """``file`` is in a bundle the image tower's name (models/w8a8.image.onnx); the text tower's follows from it."""
    from edgekit.runtimes import towers  # not for texts alone: it brings all that pictures need

    found = about.each_tower()
    return towers.from_files(
        folder,
        found,
        read_spec(folder),
        engine=engine,
        precision=about.precision,
        threads=threads,
        file=file,
        names={name: bundled(file, name, like) for name in found} if file else {},
        digest=towers.digest(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in about.files),
    )


def bundled(file: str, tower: str, like: str = "") -> str:
    """What the file of ``tower`` is called in a bundle whose image tower's is ``file``.

    models/w8a8.image.onnx has its text in models/w8a8.text.onnx, or beside the image tower ``like``.
    """
    path = Path(like if like and tower == "text" else file)
    stem = path.stem.removesuffix(".image")
    return path.with_name(f"{stem}.{tower}{path.suffix}").as_posix()


def can_share(folder: Path, other: Path) -> bool:
    """Whether two artifacts are for one engine and have the same text tower, byte for byte: see :func:`sources`."""
    one, two = read(folder), read(other)
    if one.engine != two.engine or "text" not in one.towers or one.towers["text"] != two.towers.get("text"):
        return False
    return all(filecmp.cmp(folder / "text" / name, other / "text" / name, shallow=False) for name in FILES[one.engine])


def sources(folder: Path, file: str, like: str = "") -> dict[str, Path]:
    """Names in a bundle of all files of the model in ``folder``, whose main one becomes ``file``; where they lie.

    ``like``: the main file of a model in that bundle with the same text tower, whose file this one then shares.
    """
    about = read(folder)
    mains = {name: bundled(file, name, like) for name in TOWERS if name in about.towers} or {"": file}
    found = {}
    for tower, main in mains.items():
        for name in FILES[about.engine]:
            found[str(Path(main).with_suffix(Path(name).suffix).as_posix())] = folder / tower / name
    return found


def shared(folder: Path) -> dict[str, Path]:
    """Names in a bundle of the files that all models of one task share, and where they lie: tokenizer, prompt bank."""
    return {name: folder / name for name in (TOKENIZER, PROMPTS) if (folder / name).is_file()}


def entry(folder: Path, file: str, output: str = "", failed: str = "", like: str = "") -> ModelFile:
    """What a manifest says of the model in ``folder``, packed as :func:`sources` names its files."""
    about = read(folder)
    towers = {name: {**one.to_dict(), "path": bundled(file, name, like)} for name, one in about.each_tower().items()}
    parts = [name for name in sources(folder, file, like) if name != file]
    more = {"inputs": towers["image"]["inputs"]} if towers else {}
    return ModelFile(
        file, about.engine, about.precision, output=output, parts=parts, failed=failed, towers=towers, **more
    )


def size_bytes(folder: Path) -> int:
    """Bytes on disk of the files that an answer needs: the model, its tokenizer and its prompt bank."""
    about = read(folder)
    wanted = [*about.files]
    if not about.towers or "text" in about.towers:
        wanted.append(TOKENIZER)
    if (folder / PROMPTS).is_file():
        wanted.append(PROMPTS)
    return sum((folder / name).stat().st_size for name in wanted)
