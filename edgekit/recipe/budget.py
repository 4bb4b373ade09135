"""The user's bounds on the result, such as ``acc>=-1pp, p95<=25ms, size<=12MB, rss<=120MB``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from edgekit.errors import RecipeError

Quantity = Literal["acc", "p50", "p90", "p95", "p99", "size", "rss"]
Operator = Literal[">=", "<="]

TIME = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
SIZE = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
QUANTITIES: dict[str, dict[str, float]] = {
    "acc": {"": 1.0, "pp": 0.01, "%": 0.01},
    **dict.fromkeys(("p50", "p90", "p95", "p99"), TIME),
    "size": SIZE,
    "rss": SIZE,
}
_BOUND = re.compile(
    r"\s*([A-Za-z]\w*)\s*(>=|<=)\s*([+-]?)((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-zµ%]*)\s*", re.ASCII
)
_FIX = "Write it like `acc>=-1pp, p95<=25ms, size<=12MB, rss<=120MB`."


@dataclass(frozen=True)
class Bound:
    """One bound. ``number`` and ``unit`` are as written; ``limit`` is in the unit that values are compared in."""

    quantity: Quantity
    operator: Operator
    number: float
    unit: str
    relative: bool = False  # acc only: against the teacher's value

    @property
    def limit(self) -> float:
        """The bound in base units: a share for acc, milliseconds for times, bytes for size and rss."""
        return self.number * QUANTITIES[self.quantity][self.unit]

    def threshold(self, teacher_value: float | None = None) -> float:
        """The value that the result is compared with. ``-1pp`` is teacher - 0.01; ``-1%`` is teacher * 0.99.

        Raises ValueError where the bound is relative and the teacher's value is unknown.
        """
        if not self.relative:
            return self.limit
        if teacher_value is None:
            raise ValueError(f"{self} is relative to the teacher, whose value is not given")
        return teacher_value + self.limit if self.unit == "pp" else teacher_value * (1 + self.limit)

    def check(self, value: float, teacher_value: float | None = None) -> bool:
        """True where ``value`` (a share, ms, or bytes) meets the bound. NaN never does."""
        limit = self.threshold(teacher_value)
        slack = 1e-12 * max(1.0, abs(limit))  # 0.93 - 0.01 is not exactly 0.92
        return value >= limit - slack if self.operator == ">=" else value <= limit + slack

    def __str__(self) -> str:
        number = repr(self.number).removesuffix(".0")
        sign = "+" if self.relative and math.copysign(1.0, self.number) > 0 else ""
        return f"{self.quantity}{self.operator}{sign}{number}{self.unit}"


@dataclass(frozen=True)
class Budget:
    """All bounds; an empty budget is always met."""

    bounds: tuple[Bound, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a comma-separated list of bounds; RecipeError tells which part is wrong and how to write it."""
        bounds: list[Bound] = []
        for part in (part.strip() for part in text.split(",")) if text.strip() else ():
            bound = _bound(part)
            if any(bound.quantity == other.quantity for other in bounds):
                raise RecipeError(
                    "budget", found=f"two bounds on {bound.quantity}", expected="one", fix="Keep the one you mean."
                )
            bounds.append(bound)
        return cls(tuple(bounds))

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds))

    def get(self, quantity: str) -> Bound | None:
        """The bound on ``quantity``, or None."""
        return next((bound for bound in self.bounds if bound.quantity == quantity), None)


def _bound(part: str) -> Bound:
    match = _BOUND.fullmatch(part)
    if match is None:
        raise RecipeError("budget", found=f"`{part}`", expected="QUANTITY>=NUMBER or QUANTITY<=NUMBER", fix=_FIX)
    name, operator, sign, digits, written = match.groups()
    quantity = name.lower()
    if quantity not in QUANTITIES:
        raise RecipeError("budget", found=f"quantity `{name}`", expected=f"one of {', '.join(QUANTITIES)}", fix=_FIX)
    units = QUANTITIES[quantity]
    unit = next((unit for unit in units if unit.lower() == written.lower()), None)
    if unit is None:
        known = ", ".join(unit or "none" for unit in units)
        raise RecipeError(
            "budget", found=f"unit `{written or 'none'}` in `{part}`", expected=f"one of {known}", fix=_FIX
        )
    better = ">=" if quantity == "acc" else "<="
    if operator != better:
        raise RecipeError(
            "budget",
            found=f"`{part}`",
            expected=f"{quantity}{better}...",
            fix=f"A budget bounds {quantity} this way only.",
        )
    number = float(sign + digits)
    relative = quantity == "acc" and bool(sign)
    if not math.isfinite(number):
        raise RecipeError("budget", found=f"`{part}`", expected="a finite number", fix=_FIX)
    if quantity != "acc" and (sign or number <= 0):
        raise RecipeError("budget", found=f"`{part}`", expected="a positive number without a sign", fix=_FIX)
    if relative and not unit:
        raise RecipeError(
            "budget",
            found=f"`{part}`",
            expected="a unit after a signed number",
            fix="`acc>=-1pp` is a point below the teacher, `acc>=-1%` is 99 % of its value, `acc>=0.9` is absolute.",
        )
    if quantity == "acc" and not relative and (unit == "pp" or not 0 <= number * units[unit] <= 1):
        raise RecipeError(
            "budget",
            found=f"`{part}`",
            expected="a share from 0 to 1, or a sign and pp or %",
            fix="`acc>=0.9` and `acc>=90%` are absolute, `acc>=-1pp` is relative to the teacher.",
        )
    return Bound(quantity, operator, number, unit, relative)  # type: ignore[arg-type]
