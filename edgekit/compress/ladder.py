"""The rungs of a ladder as the manifest tells them: how right and how fast each part of the student is."""

from __future__ import annotations

from typing import Any

from edgekit.bundle import FileEntry
from edgekit.bundle.records import RungRecord
from edgekit.compress.files import Packed
from edgekit.compress.gate import Gate
from edgekit.distill import families
from edgekit.evaluate import agreement


def rungs(
    gate: Gate, files: list[Packed], order: list[str], profiles: list[dict[str, Any]], entries: list[FileEntry]
) -> list[RungRecord]:
    """One record for each rung of the recipe's ladder that ``files`` holds, the largest first; [] for one alone.

    ``order``: paths of ``files``, each rung's preferred file before its others; ``profiles``: a row a file.
    """
    depths = gate.recipe.ladder
    teacher = gate.teacher
    assert teacher is not None
    ranked = sorted(files, key=lambda one: order.index(one.path))
    p50_ms = {row["file"]: float(row["p50_ms"]) for row in profiles}
    size = {entry.path: entry.bytes for entry in entries}
    found = []
    for depth in depths:
        mine = [one for one in ranked if one.rung == ("" if depth == depths[0] else str(depth))]
        if not mine:
            gate.progress.say(f"pack: the rung {depth} did not stay, so the bundle's ladder is without it")
            continue
        answers = gate.answers(mine[0].folder).test
        on_test = gate.scored(answers, gate.splits.test, test=True)
        found.append(
            RungRecord(
                name=str(depth),
                metric=on_test.metric,
                value=on_test.value,
                low=on_test.low,
                high=on_test.high,
                n=on_test.n,
                agreement=agreement(gate.recipe.task, gate.answers(teacher).test, answers),
                size_bytes=sum(size[name] for name in mine[0].sources()),
                p50_ms=p50_ms[mine[0].path],
                models=[one.entry(gate.recipe.task) for one in mine] if mine[0].rung else [],
                **families.rung_size(gate.recipe, depth),
            )
        )
    return found if len(found) > 1 else []
