"""What the gate decides, and what it says."""

from __future__ import annotations

from edgekit.compress.gate import decide
from edgekit.evaluate import Drop
from edgekit.recipe.stages import GateConfig

BOUNDS = GateConfig(max_drop=0.01, min_gain=1.05, max_cosine_drop=0.1)


def test_a_stage_that_loses_too_much_is_rolled_back() -> None:
    kept, reason = decide("accuracy", Drop(0.02, 0.01, 0.03), 3.0, 3.0, BOUNDS, required=False)
    assert not kept and "-2.00 pp" in reason and "bound" in reason


def test_a_stage_that_does_not_pay_is_rolled_back() -> None:
    kept, reason = decide("accuracy", Drop(0.0, 0.0, 0.0), 1.04, 1.0, BOUNDS, required=False)
    assert not kept and "does not pay" in reason and "1.04x faster" in reason


def test_smaller_or_faster_is_enough() -> None:
    assert decide("accuracy", Drop(0.009, 0.0, 0.02), 0.9, 1.2, BOUNDS, required=False)[0]
    assert decide("accuracy", Drop(-0.01, -0.02, 0.0), 1.2, 1.0, BOUNDS, required=False)[0]


def test_a_stage_that_is_slower_than_asked_is_rolled_back_however_small() -> None:
    bounds = GateConfig(max_drop=0.01, min_gain=1.0, min_speed=0.9)
    kept, reason = decide("accuracy", Drop(0.0, 0.0, 0.0), 0.44, 3.0, bounds, required=False)
    assert not kept and reason.startswith("slower: 0.44x faster, 3.00x smaller, asked for 0.90x the speed")
    assert decide("accuracy", Drop(0.0, 0.0, 0.0), 0.91, 3.0, bounds, required=False)[0]
    any_speed = GateConfig(max_drop=0.01, min_gain=1.0, min_speed=0)
    assert decide("accuracy", Drop(0.0, 0.0, 0.0), 0.44, 3.0, any_speed, required=False)[0]
    assert decide("accuracy", Drop(0.0, 0.0, 0.0), 0.44, 3.0, bounds, required=True)[0]


def test_embeddings_without_pairs_have_a_bound_of_their_own() -> None:
    assert decide("cosine_to_teacher", Drop(0.05, 0.0, 0.1), 2.0, 1.0, BOUNDS, required=False)[0]
    assert not decide("spearman", Drop(0.05, 0.0, 0.1), 2.0, 1.0, BOUNDS, required=False)[0]


def test_what_the_bundle_cannot_do_without_stays_and_says_so() -> None:
    kept, reason = decide("accuracy", Drop(0.5, 0.4, 0.6), 1.0, 1.0, BOUNDS, required=True)
    assert kept and "no bundle is possible without it" in reason
