"""Cut a part off: in proportion, by hash of the text, and never one text in two parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from edgekit.data.records import fold


def _rank(salt: str, folded: str) -> bytes:
    return hashlib.sha256(f"{salt}\0{folded}".encode()).digest()


def quotas(sizes: dict[str, int], count: int) -> dict[str, int]:
    """How many of each stratum make ``count`` in proportion (largest remainder); each keeps at least one behind."""
    total = sum(sizes.values())
    exact = {name: size * count / total for name, size in sizes.items()}
    result = {name: min(int(share), sizes[name] - 1) for name, share in exact.items()}
    order = sorted(sizes, key=lambda name: (result[name] - exact[name], name))
    left = count - sum(result.values())
    while left > 0:
        able = [name for name in order if result[name] < sizes[name] - 1]
        if not able:
            break
        for name in able[:left]:
            result[name] += 1
        left = count - sum(result.values())
    return result


def cut(texts: Sequence[str], strata: Sequence[str], count: int, salt: str, *, together: bool = True) -> list[int]:
    """Rows of a part of about ``count``, stratified. Rows that fold to one text go together, unless told otherwise.

    The choice depends on ``salt`` and the texts, not on their order; a stratum never loses its last text.
    """
    groups: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        groups.setdefault(fold(text) if together else f"{fold(text)}\0{row}", []).append(row)
    by_stratum: dict[str, list[str]] = {}
    for folded, rows in groups.items():
        by_stratum.setdefault(min(strata[row] for row in rows), []).append(folded)
    sizes = {name: sum(len(groups[folded]) for folded in members) for name, members in by_stratum.items()}
    chosen: list[int] = []
    for name, quota in quotas(sizes, min(count, len(texts))).items():
        members = sorted(by_stratum[name], key=lambda folded: _rank(salt, folded))
        taken = 0
        for folded in members[:-1]:  # the last text of a stratum stays
            if taken >= quota:
                break
            if taken + len(groups[folded]) <= quota or not taken:
                chosen += groups[folded]
                taken += len(groups[folded])
    return sorted(chosen)
