"""A dual encoder out of its files: an image tower, and perhaps a text tower and a prompt bank."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from edgekit.bundle import Bundle, ModelFile
from edgekit.bundle.dual import Tower
from edgekit.bundle.records import TaskSpec
from edgekit.errors import BundleError, EngineError
from edgekit.runtimes import engines
from edgekit.runtimes.context import ClipTextPipeline, ClipTokenizer
from edgekit.runtimes.dual import DualModel, Loaded
from edgekit.runtimes.engines.placement import placements
from edgekit.runtimes.prompts import NAME, PromptBank
from edgekit.runtimes.threads import thread_count
from edgekit.runtimes.vision.pipeline import ImagePipeline
from edgekit.runtimes.vision.preprocess import ImagePreprocessor


def from_files(
    root: Path,
    towers: Mapping[str, Tower],
    spec: TaskSpec,
    *,
    engine: str,
    precision: str = "fp32",
    threads: int | None = None,
    file: str = "",
    names: Mapping[str, str] = MappingProxyType({}),
    digest: str = "",
    create: engines.Create = engines.create,
) -> DualModel:
    """Load ``towers``, whose paths are from ``root``, where tokenizer.json lies, and perhaps prompts.safetensors.

    ``file``: the name to go by, else the image tower's path; ``names``: what the towers' files go by, else their paths.
    ``create``: what loads a file. With neither a text tower nor a bank, pictures are embedded and compared with each
    other. Raises ``EngineError``, ``BundleError``, ``MissingDependencyError``, ``InputError``.
    """
    threads = thread_count(threads)
    loaded = {
        name: create(engine, root / one.path, threads, tuple(one.inputs), one.output, one.precision)
        for name, one in towers.items()
    }
    image, text = loaded["image"], loaded.get("text")
    if text is not None and len({image.output_width, text.output_width, None}) == 3:
        raise EngineError(
            f"towers of {file or towers['image'].path}",
            found=f"{image.output_width} numbers for a picture, {text.output_width} for a text",
            expected="as many",
        )
    texts = None if text is None else ClipTextPipeline.of_engine(tokenizer(root, spec), text)
    bank = PromptBank.load(root / NAME) if (root / NAME).is_file() else None
    if bank is not None and len({image.output_width, bank.embeddings.shape[1], None}) == 3:
        raise BundleError(
            f"{root.name}: {NAME}",
            found=f"{bank.embeddings.shape[1]} numbers a label",
            expected=f"{image.output_width}, as the image tower gives",
        )
    named = {name: replace(one, path=names.get(name, one.path)) for name, one in towers.items()}
    return DualModel(
        ImagePipeline.of_engine(ImagePreprocessor(spec.pictures), image),
        texts,
        spec,
        bank,
        digest,
        Loaded(engine, image.version, file or towers["image"].path, precision, threads, named, placements(loaded)),
    )


def from_bundle(
    bundle: Bundle, chosen: ModelFile, threads: int | None, engine: str, create: engines.Create = engines.create
) -> DualModel:
    """The towers of ``chosen`` in ``engine``. ``create`` and errors as in :func:`from_files`."""
    towers = towers_of(chosen)
    for one in towers.values():
        bundle.file(one.path)
    return from_files(
        bundle.root,
        towers,
        bundle.manifest.task,
        engine=engine,
        precision=chosen.precision,
        threads=threads,
        file=chosen.path,
        digest=digest_of(bundle, chosen),
        create=create,
    )


def towers_of(model: ModelFile) -> dict[str, Tower]:
    """The towers of ``model``, the image's first."""
    return {name: one for name in ("image", "text") if (one := model.tower(name)) is not None}


def tokenizer(root: Path, spec: TaskSpec) -> ClipTokenizer:
    """tokenizer.json in ``root``, as ``spec`` says that texts become rows. Raises ``BundleError``."""
    return ClipTokenizer(root / "tokenizer.json", spec.max_length, spec.pad_id, fixed_length=spec.fixed_length)


def digest_of(bundle: Bundle, model: ModelFile) -> str:
    """The hash that ``model`` is known by: of the sha256 of all its files, whatever their names.

    A lower rung of a ladder is known as the first one is (:meth:`Manifest.head`): what one has embedded serves all.
    """
    hashes = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    model = bundle.manifest.head(model)
    return digest(hashes[path] for path in (model.path, *model.parts))


def digest(hashes: Iterable[str]) -> str:
    """One sha256 of several, in hex, the same in any order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
