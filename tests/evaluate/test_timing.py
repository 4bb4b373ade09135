from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from edgekit.evaluate import interleaved, percentiles


def test_every_text_is_timed_in_every_round_and_turns_rotate() -> None:
    calls: list[str] = []
    texts = [str(i) for i in range(20)]
    made = {name: (lambda text, name=name: calls.append(name)) for name in ("a", "b", "c")}
    samples = interleaved(made, texts, rounds=3, warmup=2)
    assert {name: taken.shape for name, taken in samples.items()} == dict.fromkeys(made, (60,))
    assert len(calls) == 3 * (60 + 2)
    turns = calls[6:]
    firsts = {turns[i] for i in range(0, 48, 48)} | {turns[48]} | {turns[60]}
    assert len(firsts) > 1, "the same model must not always go first"


def test_ratio_of_two_known_sleeps() -> None:
    samples = interleaved(
        {"short": lambda _: time.sleep(0.002), "long": lambda _: time.sleep(0.006)}, ["x"] * 4, rounds=3, warmup=1
    )
    assert np.median(samples["long"]) > 2 * np.median(samples["short"])
    assert samples["short"].min() >= 2.0  # milliseconds


def test_the_collector_rests_and_comes_back_even_after_an_error() -> None:
    seen: list[bool] = []
    interleaved({"a": lambda _: seen.append(gc.isenabled())}, ["x"], rounds=1, warmup=0)
    assert seen == [False]
    assert gc.isenabled()

    def broken(_: str) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        interleaved({"a": broken}, ["x"], rounds=1, warmup=0)
    assert gc.isenabled()


def test_percentiles() -> None:
    found = percentiles(np.arange(1.0, 101.0))
    assert found["p50_ms"] == 50.5
    assert found["max_ms"] == 100.0
    assert list(found) == ["p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"]
