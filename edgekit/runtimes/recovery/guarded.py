"""A model that looks after itself: restart, next engine, last good bundle, and a typed error when nothing is left."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.errors import EdgekitWarning, EngineError, InputError, NoAnswer
from edgekit.runtimes.recovery.face import Face
from edgekit.runtimes.recovery.faults import Fault
from edgekit.runtimes.recovery.inprocess import Abandoned, InProcess
from edgekit.runtimes.recovery.isolated import Isolated
from edgekit.runtimes.recovery.journal import Event, Journal, prometheus
from edgekit.runtimes.recovery.keeper import Bounds, Keeper
from edgekit.runtimes.recovery.place import Place, Wrap
from edgekit.runtimes.recovery.plan import Plan
from edgekit.runtimes.recovery.session import Opener, Session, memory_bytes, wrap_of
from edgekit.runtimes.threads import thread_count

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

Answer = TypeVar("Answer")
_CALLS = 8  # of engines to open one candidate: two towers, each loaded and asked for two golden examples; and some
TRIES = 3  # sessions that one request may bring down: an input that crashes engines must not take all of them along


class Guarded(Face):
    """A bundle's model with the face of ``Model`` or ``DualModel`` and a keeper beside it. docs/recovery.md.

    ``engines``: names in order of preference, None the fastest first; ``deadline_ms``: of one inference of one row;
    one that takes more than ``hang_deadlines`` of them hangs. ``isolate``: engines run in a worker process, whose
    memory ``memory_mb`` (10^6 bytes) bounds. ``recheck_minutes``: between checks of the golden vectors when idle, None
    for none. ``last_good``: a bundle of the same task to fall back on. ``patience_ms``: how long a call whose
    inference failed may wait for the next session and try again; None as long as a hang, 0 gives up at once.
    ``start_s``: what loading and proving may take for each engine call. ``backoff_s``: the least and longest rest of
    a candidate that failed. ``max_abandoned``: threads that may hang in this process before it gives up.
    ``wrap_engine``: a hook that every loaded engine passes through with its name, for fault injection; a function,
    with ``isolate`` its name "module:function". ``on_event`` is told of each step; ``clock``: the wall clock for the
    log. ``trusted_keys``: as in :func:`edgekit.load`.

    Raises ``NoAnswer`` when every candidate was tried and none serves, ``BundleError`` and ``InputError``
    for what cannot be opened at all. Use it as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        engines: Sequence[str] | None = None,
        deadline_ms: float = 1000.0,
        hang_deadlines: float = 3.0,
        isolate: bool = False,
        memory_mb: float | None = None,
        recheck_minutes: float | None = 10.0,
        last_good: str | os.PathLike[str] | None = None,
        patience_ms: float | None = None,
        restarts: int = 1,
        backoff_s: tuple[float, float] = (0.5, 60.0),
        start_s: float = 30.0,
        max_abandoned: int = 4,
        log_size: int = 256,
        wrap_engine: Wrap | str | None = None,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.time,
        trusted_keys: Sequence[Any] | None = None,
    ) -> None:
        for name, value in {"deadline_ms": deadline_ms, "hang_deadlines": hang_deadlines, "start_s": start_s}.items():
            if not 0 < value < 1e9:
                raise InputError(name, found=repr(value), expected="a number above 0")
        hang_s = deadline_ms * hang_deadlines / 1e3
        wrap, bound = wrap_of(wrap_engine, isolate), memory_bytes(memory_mb, isolate)
        abandoned = Abandoned()

        def place(limit_s: float) -> Place:
            return Isolated(limit_s, bound, wrap or "") if isolate else InProcess(limit_s, abandoned, wrap)

        trust = {} if trusted_keys is None else {"trusted_keys": trusted_keys}
        opener = Opener(thread_count(threads), place, (start_s, hang_s), trust)
        # Absolute, since the process may change its folder before the next restart.
        paths = Path(path).absolute(), None if last_good is None else Path(last_good).absolute()
        plan = Plan(opener.candidates(*paths, engines), restarts, backoff_s)
        recheck_s = None if recheck_minutes is None else 60 * recheck_minutes
        self._journal = Journal(log_size, on_event, clock)
        self._abandoned, self._patience_s = abandoned, hang_s if patience_ms is None else patience_ms / 1e3
        self._plan = plan
        bounds = Bounds(recheck_s, 2 * deadline_ms / 1e3, bound, max_abandoned)
        self._keeper = Keeper(plan, opener, self._journal, bounds, abandoned)
        try:
            longest_s = _CALLS * start_s * len(plan.candidates)
            self._session = self._keeper.session(time.monotonic() + longest_s, first=True)
        except NoAnswer:
            self._keeper.close()
            raise
        served = self._session.candidate
        if served != plan.candidates[0]:
            causes = "; ".join(f"{event.what}: {event.reason}" for event in self.events if event.step == "failed")
            warnings.warn(f"{served} serves. Passed over: {causes}", EdgekitWarning, stacklevel=2)

    def _serve(self, ask: Callable[[Session], Answer]) -> Answer:
        """What ``ask`` gets of the serving session, or of the next ones, for as long as patience lasts.

        Raises ``NoAnswer``, and ``InputError`` for what was asked.
        """
        keeper, until = self._keeper, time.monotonic() + self._patience_s
        keeper.begin()
        try:
            tries = 0
            while True:
                session = self._session = keeper.session(until)
                try:
                    answer = ask(session)
                except EngineError as error:
                    if isinstance(error, Fault) and error.kind == "closed":
                        continue  # replaced in this very moment: no failure of this call
                    reason = keeper.report(session, error)
                else:
                    keeper.answered(session)
                    return answer
                # Out of the handler, and without the session: an error that is kept must not keep them alive.
                del session
                tries, now = tries + 1, time.monotonic()
                if tries == 1:
                    until = now + self._patience_s
                if tries == TRIES or now >= until:
                    raise NoAnswer(reason)
        except NoAnswer as error:
            self._refused(error)
            raise
        finally:
            keeper.end()

    def _ready(self) -> Session:
        try:
            return self._keeper.session(time.monotonic() + self._patience_s)
        except NoAnswer as error:
            self._refused(error)
            raise

    def _refused(self, error: NoAnswer) -> None:
        self._journal.add("no answer", self._session.candidate, error.reason)

    @property
    def _latest(self) -> Session:
        """The session that serves, or that served last."""
        self._session = self._keeper.serving or self._session
        return self._session

    @property
    def _model(self) -> Model | DualModel:
        return self._latest.model

    @property
    def bundle(self) -> Path:
        """The bundle that serves, or that served last: embeddings of another bundle lie in another space."""
        return self._latest.candidate.bundle

    @property
    def events(self) -> list[Event]:
        """What was done and why, the last ``log_size`` steps, oldest first."""
        return self._journal.events

    def check(self) -> bool:
        """Check the golden vectors now; False when they drifted or nothing serves, and recovery is under way."""
        return self._keeper.check()

    def health(self) -> dict[str, Any]:
        """Counters and state, plain JSON.

        ``state``: "serving", "degraded" (another than the first choice) or "down"; ``engine``, ``file``, ``bundle`` of
        what serves; ``answers``, ``no_answers``; ``faults`` by kind, ``steps`` by name, the latest ``recovery_ms``;
        ``abandoned_threads`` now and ``abandoned_total``; ``worker_pid`` and ``worker_rss_bytes`` (None in process);
        ``restart_process``: only a new process helps.
        """
        session, counts = self._keeper.serving, self._journal.counts()
        state = "down"
        if session is not None:
            state = "serving" if session.candidate == self._plan.candidates[0] else "degraded"
        return {
            "state": state,
            "engine": session.candidate.choice.engine if session else None,
            "file": session.candidate.choice.file if session else None,
            "bundle": str(session.candidate.bundle) if session else None,
            "answers": self._keeper.answers,
            "no_answers": counts["steps"].get("no answer", 0),
            **counts,
            "abandoned_threads": self._abandoned.now(),
            "abandoned_total": self._abandoned.total,
            "worker_pid": session.place.pid if session and isinstance(session.place, Isolated) else None,
            "worker_rss_bytes": session.place.rss_bytes() if session else None,
            "restart_process": self._keeper.stuck,
        }

    def prometheus(self) -> str:
        """:meth:`health` in Prometheus' text format."""
        return prometheus(self.health())

    def close(self) -> None:
        """End the keeper, the worker, and the engine's thread unless it hangs."""
        self._keeper.close()

    def __enter__(self) -> Guarded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
