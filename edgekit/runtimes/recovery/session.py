"""Opening a candidate: its bundle checked, its engines in a place of their own, its golden vectors answered."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bundle import Bundle, open_bundle
from edgekit.bundle.golden import Golden
from edgekit.errors import EdgekitError, EdgekitWarning, InputError
from edgekit.runtimes.check import LONG, compare, golden_of, prove
from edgekit.runtimes.choose import offer
from edgekit.runtimes.load import load_file, rank
from edgekit.runtimes.recovery.faults import Fault
from edgekit.runtimes.recovery.place import Place
from edgekit.runtimes.recovery.plan import LAST_GOOD, PRIMARY, Candidate

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model


@dataclass
class Session:
    """A model that was proven, where its engines run, and how it has done since."""

    candidate: Candidate
    model: Model | DualModel
    place: Place
    golden: Golden | None
    answers: int = 0
    checked_at: float = 0.0  # monotonic seconds of the last whole check
    unchecked: list[int] | None = None  # golden examples that the check under way has still to run

    def check(self, number: int) -> None:
        """Run golden example ``number``. Raises ``Fault`` of kind "drift" where the answer has moved too far."""
        assert self.golden is not None
        for found in compare(self.model, self.golden, [number]):
            if not found.ok:
                raise Fault("drift", f"golden vectors of {found.file}", found=str(found))

    def examples(self) -> list[int]:
        """Numbers of the golden examples that are short enough to be run beside the application."""
        if self.golden is None:
            return []
        return [i for i, windows in enumerate(self.golden.ids) if len(windows) <= 1 and sum(map(len, windows)) <= LONG]


class Opener:
    """Opens sessions. ``new_place``: given the limit in seconds, an empty place; ``limits_s``: of loading, of serving.

    ``trust``: further arguments of ``open_bundle``.
    """

    def __init__(
        self,
        threads: int,
        new_place: Callable[[float], Place],
        limits_s: tuple[float, float],
        trust: dict[str, Any],
    ) -> None:
        self._threads, self._new_place, self._limits_s, self._trust = threads, new_place, limits_s, trust

    def bundle(self, path: Path) -> Bundle:
        """The bundle with all its hashes checked. Raises ``BundleError``."""
        return open_bundle(path, **self._trust)

    def open(self, candidate: Candidate) -> Session:
        """A session of ``candidate``. Raises ``EdgekitError`` for whatever keeps it from serving."""
        bundle = self.bundle(candidate.bundle)
        golden = golden_of(bundle)
        chosen = {model.path: model for model in bundle.manifest.every_model}.get(candidate.choice.file)
        if chosen is None:
            raise InputError("file", found=repr(candidate.choice.file), expected=f"a model file of {bundle.root.name}")
        place = self._new_place(self._limits_s[0])
        try:
            model = load_file(bundle, chosen, self._threads, candidate.choice.engine, place.create)
            if golden is not None:
                prove(model, golden)
        except BaseException:
            place.close()
            raise
        place.limit_s = self._limits_s[1]
        return Session(candidate, model, place, golden)

    def candidates(self, path: Path, last_good: Path | None, engines: Sequence[str] | None) -> list[Candidate]:
        """What ``path`` offers and then what ``last_good`` does; each engine's preferred file before any second file.

        ``engines`` None: the fastest first. A bundle that cannot be opened offers nothing, with an ``EdgekitWarning``.
        Raises its error where no bundle offers anything.
        """
        found: list[Candidate] = []
        errors: list[EdgekitError] = []
        tasks: list[str] = []
        for role, place in ((PRIMARY, path), (LAST_GOOD, last_good)):
            if place is None:
                continue
            try:
                bundle = self.bundle(place)
                found += [Candidate(place, choice, role) for choice in self._order(bundle, engines)]
                tasks.append(bundle.manifest.task.task)
            except EdgekitError as error:
                errors.append(error)
        if not found:
            raise errors[0]
        if len(set(tasks)) > 1:
            raise InputError("last_good", found=f"a bundle of task {tasks[1]}", expected=tasks[0])
        for one in errors:
            warnings.warn(f"one bundle less to fall back on: {one}", EdgekitWarning, stacklevel=4)
        return found

    def _order(self, bundle: Bundle, engines: Sequence[str] | None) -> list[Any]:
        offered = offer(bundle)
        if engines is None:
            order = rank(bundle, offered, self._threads, check_golden=True).order
        else:
            order = [choice for name in engines for choice in offered.ready if choice.engine == name]
            if not order:
                have = ", ".join(dict.fromkeys(choice.engine for choice in offered.ready))
                raise InputError("engines", found=", ".join(engines) or "none", expected=f"some of {have}")
        first = {choice.engine: choice for choice in reversed(order)}
        return sorted(order, key=lambda choice: first[choice.engine] is not choice)


def wrap_of(wrap: Any, isolate: bool) -> Any:
    """``wrap`` as the place takes it: a callable, or for a worker its name. Raises ``InputError``."""
    if wrap is None or (isolate and isinstance(wrap, str) and wrap.count(":") == 1) or (not isolate and callable(wrap)):
        return wrap
    raise InputError(
        "wrap_engine", found=repr(wrap)[:60], expected='"module:function"' if isolate else "a function (engine, name)"
    )


def memory_bytes(memory_mb: float | None, isolate: bool) -> int:
    """``memory_mb`` (10^6 bytes) as bytes, 0 for None. Raises ``InputError`` without a worker to bound."""
    if memory_mb is None:
        return 0
    if not isolate or memory_mb <= 0:
        raise InputError(
            "memory_mb",
            found=memory_mb,
            expected="a number above 0, with isolate=True",
            fix="Memory that an engine leaked inside this process cannot be taken back.",
        )
    return int(memory_mb * 1e6)
