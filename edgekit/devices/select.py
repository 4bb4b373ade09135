"""What a profile measures: which model files in which engines, with which inputs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle
from edgekit.errors import InputError, MissingDependencyError
from edgekit.runtimes import engines
from edgekit.runtimes.choose import Choice, pip_line

LENGTHS = (16, 32, 128)
WORDS = ["the", "film", "was", "a", "quiet", "surprise", "and", "we", "stayed", "until", "its", "very", "end"]


def jobs(
    bundle: Bundle,
    threads: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] = (1,),
    files: Sequence[str] | None = None,
    engine: str | Sequence[str] = "auto",
    precisions: Sequence[str] | None = None,
    pictures: Sequence[str | Path] = (),
    index: str | Path | None = None,
) -> list[dict[str, Any]]:
    """One job of :mod:`edgekit.devices.worker` a row, without its runs; arguments as of ``profile``.

    Raises InputError, MissingDependencyError.
    """
    longest = bundle.manifest.task.max_length
    few = () if bundle.manifest.task.fixed_length else LENGTHS
    wanted = [n for n in few if n <= longest] or [longest] if lengths is None else list(lengths)
    given = _dual(bundle, pictures, index)
    for name, values, most in (("threads", threads, 1024), ("batch", batches, 4096), ("lengths", wanted, longest)):
        for value in values:
            if not 1 <= value <= most:
                raise InputError(f"--{name}", found=value, expected=f"1 to {most}")
    chosen = _choices(bundle, files, [engine] if isinstance(engine, str) else list(engine), precisions)
    common = {"bundle": str(bundle.root), "words": _words(bundle), **given}
    return [
        {**common, "file": choice.file, "engine": choice.engine, "threads": count, "batch": batch, **one}
        for choice, count, batch in itertools.product(chosen, threads, batches)
        for one in _inputs(bundle, choice, wanted)
    ]


def told(job: dict[str, Any]) -> str:
    """A job in a few words."""
    given = "pictures" if job["length"] is None else f"{job['length']} tokens"
    return f"{job['engine']}, {job['file']}, {job['threads']} threads, {given}"


def _choices(
    bundle: Bundle, files: Sequence[str] | None, asked: list[str], precisions: Sequence[str] | None
) -> list[Choice]:
    """What to measure, in the order of ``asked`` engines, then of the manifest."""
    manifest, wanted = bundle.manifest, [] if "auto" in asked else asked
    models = manifest.models if files is None else manifest.every_model
    readers = {model.path: engines.readers(model.engine) for model in models}
    for kind, names, have in (
        ("engine", wanted, {name for model in models for name in readers[model.path] or [model.engine]}),
        ("precision", precisions or [], {model.precision for model in models}),
    ):
        for name in names:
            if name not in have:
                raise InputError(
                    f"{kind} {name}", found=f"none in {bundle.root.name}", expected=", ".join(sorted(have))
                )
    models = [model for model in models if not precisions or model.precision in precisions]
    models = [model for model in models if not wanted or set(wanted) & set(readers[model.path])]
    if files is not None:
        known = {model.path for model in models}
        for name in files:
            if name not in known:
                raise InputError(f"model file {name}", expected=", ".join(sorted(known)) or "none for this engine")
        models = [model for model in models if model.path in files]
    for name in wanted:
        if not engines.installed(name):
            raise MissingDependencyError(f"engine {name}", found="not installed", fix=pip_line(name))
    chosen = [Choice(model.path, name) for name in wanted for model in models if name in readers[model.path]]
    if not wanted:
        here = {model.path: next(filter(engines.installed, readers[model.path]), None) for model in models}
        chosen = [Choice(path, name) for path, name in here.items() if name]
    if not chosen:
        named = sorted({model.engine for model in models})
        raise MissingDependencyError(
            f"no installed engine runs {bundle.root.name}", expected=", ".join(named), fix=pip_line(named[0])
        )
    return chosen


def _dual(bundle: Bundle, pictures: Sequence[str | Path], index: str | Path | None) -> dict[str, Any]:
    """What only a dual encoder's jobs have. Raises ``InputError`` where other bundles are given it."""
    given: dict[str, Any] = {"pictures": [str(one) for one in pictures]} if pictures else {}
    given |= {"index": str(index)} if index is not None else {}
    if given and bundle.manifest.task.task != "clip":
        raise InputError(", ".join(given), found=f"a bundle of task {bundle.manifest.task.task}", expected="clip")
    return given


def _inputs(bundle: Bundle, choice: Choice, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """What each row of ``choice`` is given: texts of a length; of a dual encoder, pictures too."""
    model = next(one for one in bundle.manifest.every_model if one.path == choice.file)
    if not model.towers:
        return [{"length": length} for length in lengths]
    texts = [{"tower": "text", "length": length} for length in lengths] if "text" in model.towers else []
    return [{"tower": "image", "length": None}, *texts]


def _words(bundle: Bundle) -> list[str]:
    texts = bundle.manifest.golden.get("texts")
    found = " ".join(text for text in texts if isinstance(text, str)).split() if isinstance(texts, list) else []
    return list(dict.fromkeys(word for word in found if len(word) < 20))[:400] or WORDS
