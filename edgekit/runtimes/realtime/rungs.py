"""The rungs of a ladder out of one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.bundle.reader import read_manifest
from edgekit.bundle.records import Manifest, RungRecord
from edgekit.errors import InputError
from edgekit.runtimes.load import load
from edgekit.runtimes.realtime.ladder import Rung
from edgekit.runtimes.threads import thread_count


def rungs_of(
    path: str | Path,
    threads: int | None,
    engine: str,
    how: Mapping[str, Any],
    adapt: Callable[[Any], Any] = lambda model: model,
) -> list[Rung]:
    """Each rung of the bundle at ``path``, loaded by :func:`edgekit.load`; ``how`` holds its other arguments.

    ``adapt``: a model to what a stream is to run of it. Rungs that share a text tower hold it once.

    Raises ``InputError`` for a bundle without a ladder, and what loading raises.
    """
    count = thread_count(threads)
    manifest = read_manifest(Path(path))
    if not manifest.ladder:
        raise InputError(
            f"{Path(path).name}: ladder",
            found="none in its manifest",
            expected="a bundle of several rungs",
            fix="Compress with `ladder: [6, 4, 2]` in the recipe, or name rungs of your own: Ladder([Rung(...), ...]).",
        )
    found = []
    texts: dict[tuple[str, str], Any] = {}
    for record in manifest.ladder:
        again = partial(load, path, engine=engine, rung=record.name, **how)
        model: Any = again(threads=count)
        if "text" in getattr(model, "towers", {}):
            model.text = texts.setdefault((model.engine, model.towers["text"].path), model.text)
        p50_ms = _p50_ms(manifest, record, model)
        lean = partial(_adapted, again, adapt) if count > 1 else None
        found.append(Rung(record.name, adapt(model), record.value, p50_ms, lean))
    return found


def _adapted(again: Callable[..., Any], adapt: Callable[[Any], Any]) -> Any:
    return adapt(again(threads=1))


def _p50_ms(manifest: Manifest, record: RungRecord, model: Any) -> float:
    """Of the file and engine that were loaded, where the bundle has measured them; else of the rung's fastest."""
    for row in manifest.profiles:
        if row.get("file") == model.file and row.get("engine") == model.engine and type(row.get("p50_ms")) is float:
            return float(row["p50_ms"])
    return record.p50_ms
