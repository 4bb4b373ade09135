"""Numbers as people read them. A missing number is a dash, never a zero."""

from __future__ import annotations

import math
import re
from typing import Any

DASH = "–"
LISTED = 20  # labels
SHARES = ("accuracy", "token_accuracy", "recall_at_1")


def missing(value: Any) -> bool:
    """None, NaN and infinity are no numbers to show."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def metric(name: str, value: float | None) -> str:
    """``94.3 %`` for a share, ``0.8312`` for a correlation or a cosine."""
    if missing(value) or value is None:
        return DASH
    return f"{100 * value:.1f} %" if name in SHARES else f"{value:.4f}"


def interval(name: str, low: float | None, high: float | None) -> str:
    """The 95 % interval beside its value."""
    if missing(low) or missing(high) or low is None or high is None:
        return ""
    return f"[{100 * low:.1f}, {100 * high:.1f}]" if name in SHARES else f"[{low:.4f}, {high:.4f}]"


def change(drop: float | None) -> str:
    """A drop as a change in points of a hundred: ``-0.42`` lost, ``+0.10`` gained."""
    return DASH if missing(drop) or drop is None else f"{-100 * drop + 0.0:+.2f}"


def change_interval(low: float | None, high: float | None) -> str:
    """The interval of a change, from the interval of its drop."""
    return "" if missing(low) or missing(high) else f"[{change(high)}, {change(low)}]"


def size(value: float | None) -> str:
    """Bytes as MB (10**6) or KB."""
    if missing(value) or value is None:
        return DASH
    return f"{value / 1e6:.1f} MB" if value >= 1e5 else f"{value / 1e3:.1f} KB"


def milliseconds(value: float | None) -> str:
    """Three figures, as much as a timing holds."""
    if missing(value) or value is None:
        return DASH
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


def short(value: float) -> str:
    """A tick of an axis: three figures at most, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def megabytes(value: float | None) -> str:
    """MB (10**6 bytes), as profiles have them."""
    return size(None if value is None else 1e6 * value)


def millions(value: float | None) -> str:
    """A count in millions: ``120 M``."""
    return DASH if missing(value) or value is None else f"{value:.3g} M" if value < 1000 else f"{value:.0f} M"


def millijoules(value: float | None) -> str:
    """Energy of one inference."""
    return DASH if missing(value) or value is None else f"{value:.3g} mJ"


def share(value: float | None) -> str:
    """A part of one: ``37.5 %``."""
    return DASH if missing(value) or value is None else f"{100 * value:.1f} %"


def plain_name(name: str) -> str:
    """A processor's or board's name without marks of registration, so that it fits beside a bar."""
    return " ".join(re.sub(r"\((R|TM|tm|r)\)|®|™", " ", name).split())


def when(time: str) -> str:
    """An ISO time as ``2026-11-22 02:49 UTC``; anything else as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:[\d.]+)?(Z|\+00:00)", time)
    return f"{found[1]} {found[2]} UTC" if found else time


def told(text: str) -> str:
    """A figure of a board, where a dash would leave open whether it is none or was not looked for."""
    return "not measured" if text in (DASH, "") else text


def times(value: float | None) -> str:
    """A ratio: ``12.3×``."""
    if missing(value) or value is None:
        return DASH
    return f"{value:.2f}×" if value < 10 else f"{value:.1f}×"


def seconds(value: float | None) -> str:
    """Such as ``48 s`` or ``3 min 05 s``."""
    if missing(value) or value is None:
        return DASH
    whole = round(value)
    return f"{value:.1f} s" if value < 10 else f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02d} s"


def cosine(value: float | None) -> str:
    """A cosine, to the place where it differs from one."""
    return DASH if missing(value) or value is None else f"{value:.5f}" if value > 0.999 else f"{value:.4f}"


def small(value: float | None) -> str:
    """A difference, to two figures."""
    return DASH if missing(value) or value is None else f"{value:.2g}"


def ratio(before: float | None, after: float | None) -> float | None:
    """before / after, where both are numbers and the second is not zero."""
    if missing(before) or missing(after) or before is None or not after:
        return None
    return before / after


def bound_value(bound: dict[str, Any], key: str) -> str:
    """``found`` or ``limit`` of a budget row in the unit of its quantity."""
    value, text = bound.get(key), str(bound.get("bound", ""))
    if not isinstance(value, int | float):
        return DASH
    if text.startswith(("size", "rss")):
        return size(value)
    if text.startswith("p"):
        return milliseconds(value)
    return f"{value:.4f}"


def prompts(bank: dict[str, Any]) -> str:
    """What a bundle knows of texts, where its labels are packed."""
    names = [str(name) for name in bank["labels"]]
    shown = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
    rest = "Other texts are embedded too." if bank["text_tower"] else "No text tower is packed: no other text is known."
    return f"{len(names)} labels are packed, each in {len(bank['templates'])} templates: {shown}. {rest}"
