"""The thread that keeps a model serving: it opens, replaces and checks sessions while callers wait or give up."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from edgekit.errors import EdgekitError, NoAnswer
from edgekit.runtimes.process import give_back
from edgekit.runtimes.recovery.faults import Fault, thrown
from edgekit.runtimes.recovery.inprocess import Abandoned
from edgekit.runtimes.recovery.journal import Journal
from edgekit.runtimes.recovery.plan import LAST_GOOD, Candidate, Plan
from edgekit.runtimes.recovery.session import Opener, Session

SETTLED = 100  # answers without a fault after which a session's earlier failures are forgotten
_MEMORY_EVERY_S = 0.25
_STUCK_EVERY_S = 0.2
_SETTLE_S = 0.2  # by then the thread of a closed session has ended and freed it


@dataclass(frozen=True)
class Bounds:
    """``recheck_s``: between two checks of the golden vectors (None: only on demand), when idle for ``quiet_s``.

    ``memory_bytes``: of the worker, 0 for none; ``abandoned``: threads that may hang at once.
    """

    recheck_s: float | None
    quiet_s: float
    memory_bytes: int
    abandoned: int


class Keeper:
    """Holds the serving session. Its thread alone opens and closes sessions; callers only report."""

    def __init__(self, plan: Plan, opener: Opener, journal: Journal, bounds: Bounds, abandoned: Abandoned) -> None:
        self.serving: Session | None = None
        self.answers = 0
        self._plan, self._opener, self._journal, self._bounds = plan, opener, journal, bounds
        self._abandoned = abandoned
        self._changed = threading.Condition()
        self._retired: list[Session] = []
        self._last: Candidate | None = None
        self._faulted_at: float | None = None
        self._stuck = self._closing = self._wanted = self._verdict = False
        self._in_flight, self._quiet_since = 0, time.monotonic()
        self._memory_at = 0.0
        self._owed_at: float | None = None
        self._thread = threading.Thread(target=self._loop, name="edgekit-keeper", daemon=True)
        self._thread.start()

    @property
    def stuck(self) -> bool:
        """So many threads hang that no session is opened any more."""
        return self._stuck

    def session(self, until: float, first: bool = False) -> Session:
        """The serving one, waited for until then (monotonic seconds). Raises ``NoAnswer``.

        ``first``: wait no longer once every candidate was tried.
        """
        found = self.serving
        if found is not None:
            return found
        with self._changed:
            while self.serving is None:
                left = until - time.monotonic()
                tried = first and self._plan.next(time.monotonic()) is None
                if self._closing or self._stuck or tried or left <= 0:
                    raise self._no_answer()
                self._changed.wait(left)
            return self.serving

    def begin(self) -> None:
        """A call is under way, so this is no time for checks."""
        with self._changed:
            self._in_flight += 1

    def end(self) -> None:
        """It is over."""
        with self._changed:
            self._in_flight -= 1
            self._quiet_since = time.monotonic()

    def answered(self, session: Session) -> None:
        """``session`` gave an answer that passed."""
        with self._changed:
            self.answers += 1
            session.answers += 1
            if session.answers == SETTLED:
                self._plan.settled(session.candidate)

    def report(self, session: Session, error: EdgekitError) -> str:
        """``session`` failed; returns why, in words. Of several callers that say so the first counts."""
        fault = error if isinstance(error, Fault) else thrown(error, str(session.candidate))
        kind, reason = fault.kind, str(fault)
        del error, fault  # their tracebacks hold the frames that hold them
        with self._changed:
            if self.serving is not session:
                return reason
            now = time.monotonic()
            self.serving, self._faulted_at = None, now
            self._retired.append(session)
            self._plan.failed(session.candidate, now)
            self._journal.add("fault", session.candidate, reason, kind=kind)
            self._changed.notify_all()
        return reason

    def check(self) -> bool:
        """Let the golden vectors be checked now; whether they are as they must be. False when nothing serves."""
        with self._changed:
            self._wanted, self._verdict = True, False
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._wanted or self._closing)
            return self._verdict

    def close(self) -> None:
        """End the thread and the session."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            wait_s = self._step()
            with self._changed:
                if self._closing:
                    break
                if wait_s > 0 and not self._retired and not self._wanted:
                    self._changed.wait(wait_s)
        with self._changed:
            left, self.serving = [*self._retired, self.serving], None
        for one in left:
            if one is not None:
                one.place.close()

    def _step(self) -> float:
        """Do what is due; seconds until something may be due again."""
        with self._changed:
            retired, self._retired = self._retired, []
        for session in retired:
            session.place.close()
        if retired:
            self._owed_at = time.monotonic() + _SETTLE_S
        del retired
        serving = self.serving
        return self._recover() if serving is None else self._look_after(serving)

    def _recover(self) -> float:
        now = time.monotonic()
        self._checked(False)
        with self._changed:
            was_stuck, self._stuck = self._stuck, self._abandoned.now() >= self._bounds.abandoned
            candidate = self._plan.next(now)
            if self._stuck:
                self._changed.notify_all()
        if self._stuck:
            if not was_stuck:
                reason = f"{self._abandoned.now()} threads hang; only a new process gets rid of them"
                self._journal.add("stuck", "this process", reason)
            return _STUCK_EVERY_S
        if candidate is None:
            return self._plan.earliest() - now
        self._try(candidate)
        return 0.0

    def _look_after(self, session: Session) -> float:
        now, bounds = time.monotonic(), self._bounds
        waits = [3600.0]
        if bounds.memory_bytes:
            if now - self._memory_at >= _MEMORY_EVERY_S:
                self._memory_at = now
                self._look_at_memory(session)
            waits.append(_MEMORY_EVERY_S)
        waits.append(self._settle(now))
        better = self._plan.better(session.candidate, now)
        if better is not None:
            self._try(better)
            return 0.0
        if session.candidate != self._plan.candidates[0]:
            waits.append(max(0.0, self._plan.earliest(session.candidate) - now))
        if session.golden is not None and (self._wanted or bounds.recheck_s is not None):
            waits.append(self._check(session, now))
        else:
            self._checked(True)  # there is nothing to check
        return min(waits)

    def _settle(self, now: float) -> float:
        """Give back what was freed while another session served already: by one that hung, or that was replaced."""
        if self._owed_at is None:
            return 3600.0
        if self._abandoned.now():
            self._owed_at = now + _SETTLE_S
        if now >= self._owed_at:
            self._owed_at = None
            give_back()
            return 3600.0
        return self._owed_at - now

    def _look_at_memory(self, session: Session) -> None:
        found = session.place.rss_bytes()
        if found is not None and found > self._bounds.memory_bytes:
            limit = f"at most {self._bounds.memory_bytes / 1e6:.0f} MB"
            self.report(session, Fault("memory", "the worker", found=f"{found / 1e6:.0f} MB", expected=limit))

    def _try(self, candidate: Candidate) -> None:
        """Open ``candidate`` and let it serve in place of what serves now."""
        began = time.monotonic()
        try:
            session = self._opener.open(candidate)
        except Exception as error:
            reason = str(error if isinstance(error, EdgekitError) else thrown(error, "opening it"))
            kind = error.kind if isinstance(error, Fault) else ""
            with self._changed:
                self._plan.failed(candidate, time.monotonic(), opening=True)
                self._journal.add("failed", candidate, reason, time.monotonic() - began, kind)
                self._changed.notify_all()
            return
        give_back()  # what the session before has freed: before this one serves, since it takes some ms
        now = time.monotonic()
        session.checked_at = now
        with self._changed:
            step, reason = self._step_to(candidate)
            if self.serving is not None:
                self._retired.append(self.serving)
            self.serving, self._last = session, candidate
            self._journal.add(step, candidate, reason, now - began)
            if self._faulted_at is not None:
                self._journal.recovered(now - self._faulted_at)
                self._faulted_at = None
            self._changed.notify_all()

    def _step_to(self, candidate: Candidate) -> tuple[str, str]:
        last = self._last
        if last is None:
            return "start", "first session"
        if candidate == last:
            return "restart", "its session failed"
        places = self._plan.candidates
        if places.index(candidate) < places.index(last):
            return "return", f"it is preferred to {last}, and passed its golden vectors again"
        return (LAST_GOOD if candidate.role == LAST_GOOD else "next engine"), f"{last} failed"

    def _check(self, session: Session, now: float) -> float:
        """One golden example if it is time for it; seconds until the next one may be."""
        bounds = self._bounds
        if session.unchecked is None:
            due = self._wanted or (bounds.recheck_s is not None and now - session.checked_at >= bounds.recheck_s)
            if not due:
                assert bounds.recheck_s is not None
                return session.checked_at + bounds.recheck_s - now
            session.unchecked = session.examples()
        # One that is never idle is checked at twice the time, an example now and then.
        pause_s = bounds.quiet_s if bounds.recheck_s is None else min(bounds.quiet_s, bounds.recheck_s / 8)
        late = bounds.recheck_s is not None and now - session.checked_at >= 2 * bounds.recheck_s
        with self._changed:
            quiet = self._in_flight == 0 and now - self._quiet_since >= bounds.quiet_s
        if not (quiet or late or self._wanted):
            return pause_s
        try:
            if session.unchecked:
                session.check(session.unchecked.pop())
        except EdgekitError as error:
            self.report(session, error)
            self._checked(False)
            return 0.0
        if not session.unchecked:
            session.unchecked, session.checked_at = None, time.monotonic()
            self._journal.add("check", session.candidate, "golden vectors as they must be")
            self._checked(True)
        return 0.0 if quiet or self._wanted else pause_s

    def _checked(self, verdict: bool) -> None:
        if self._wanted:
            with self._changed:
                self._wanted, self._verdict = False, verdict
                self._changed.notify_all()

    def _no_answer(self) -> NoAnswer:
        if self._closing:
            return NoAnswer("it was closed")
        if self._stuck:
            return NoAnswer(f"{self._abandoned.now()} threads hang", restart_process=True)
        wait_s = max(0.0, self._plan.earliest() - time.monotonic())
        failures = [event for event in self._journal.events if event.step in ("fault", "failed")]
        last = f"last: {failures[-1].what}: {failures[-1].reason}" if failures else "the first session is being opened"
        return NoAnswer(f"no session serves; {last}", retry_after_s=wait_s)
