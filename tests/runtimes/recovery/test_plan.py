"""What is tried next, and when."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.runtimes.choose import Choice
from edgekit.runtimes.recovery.plan import LAST_GOOD, Candidate, Plan

A, B = (Candidate(Path("main.edge"), Choice(f"models/{name}", name)) for name in ("onnxruntime", "litert"))
C = Candidate(Path("good.edge"), Choice("models/onnxruntime", "onnxruntime"), LAST_GOOD)

SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_restart_then_next_engine_then_last_good_then_nothing() -> None:
    plan = Plan([A, B, C], restarts=1, backoff_s=(1, 8))
    for candidate in (A, A, B, B, C, C):
        assert plan.next(10.0) == candidate
        plan.failed(candidate, 10.0)
    assert plan.next(10.0) is None
    assert plan.earliest() == 11.0
    assert plan.next(11.0) == A


def test_the_rest_grows_while_it_fails_and_is_forgotten_when_it_settles() -> None:
    plan = Plan([A, B], restarts=1, backoff_s=(1, 3))
    now, rests = 0.0, []
    plan.failed(A, now, opening=True)  # what cannot be opened is not restarted
    for _ in range(4):
        assert plan.next(now) == B
        rests.append(plan.earliest(before=B) - now)
        now = plan.earliest(before=B)
        assert plan.better(B, now) == A
        plan.failed(A, now)  # and what comes back from a rest gets no restart either
    assert rests == [1, 2, 3, 3]
    plan.settled(A)
    plan.failed(A, now)
    assert plan.next(now) == A


@SOME
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans(), st.floats(0, 100)), max_size=30))
def test_one_of_them_is_always_due_at_the_earliest_time(failures: list[tuple[Candidate, bool, float]]) -> None:
    plan, now = Plan([A, B, C], restarts=2, backoff_s=(0.5, 60)), 0.0
    for candidate, opening, later in failures:
        now += later
        plan.failed(candidate, now, opening)
        assert plan.next(max(now, plan.earliest())) is not None
        assert plan.earliest() <= now + 60
