"""Two profiles: differences that are there are found, those that chance makes are not called differences."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgekit.devices import profiles
from tests.devices.profiles.hand import profile, row


def samples(rho: float, n: int, seed: int, level: float = 10.0, spread: float = 0.5) -> list[float]:
    """Times around ``level``, each of which differs from it by ``rho`` of what the one before did."""
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=n)
    for place in range(1, n):
        noise[place] = rho * noise[place - 1] + noise[place] * np.sqrt(1 - rho * rho)
    return [round(float(value), 4) for value in level + spread * noise]


def of(values: list[float], **given: Any) -> dict[str, Any]:
    return row(**{"samples_ms": values, "p50_ms": float(np.median(values)), **given})


def compared(a: list[dict[str, Any]], b: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    one, other = (profiles.read(json.dumps(profile(*rows)).encode()) for rows in (a, b))
    return profiles.compare(one, other, **given)


def test_a_row_that_became_slower() -> None:
    found = compared([of(samples(0.6, 400, 0))], [of(samples(0.6, 400, 1, level=12.0))])
    (only,) = found["rows"]
    assert only["verdict"] == "slower"
    assert only["low"] < only["ratio"] < only["high"]
    assert only["ratio"] == pytest.approx(1.2, abs=0.03) and only["p"] < 0.001
    back = compared([of(samples(0.6, 400, 1, level=12.0))], [of(samples(0.6, 400, 0))])["rows"][0]
    assert back["verdict"] == "faster" and back["ratio"] == pytest.approx(1 / only["ratio"], abs=1e-3)


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_chance_is_no_difference(rho: float) -> None:
    verdicts = [
        compared([of(samples(rho, 200, 2 * k))], [of(samples(rho, 200, 2 * k + 1))], margin=0.0)["rows"][0]["verdict"]
        for k in range(20)
    ]
    assert verdicts.count("no difference shown") >= 17, verdicts


def test_of_many_rows_each_must_show_more() -> None:
    a = [of(samples(0.0, 100, k), length=k + 1) for k in range(12)]
    b = [of(samples(0.0, 100, k + 100), length=k + 1) for k in range(12)]
    found = compared(a, b, margin=0.0)
    assert {one["verdict"] for one in found["rows"]} == {"no difference shown"}


def test_a_small_difference_is_within_what_two_processes_differ_by() -> None:
    a, b = [of(samples(0.0, 2000, 0, spread=0.1))], [of(samples(0.0, 2000, 1, level=10.3, spread=0.1))]
    assert compared(a, b)["rows"][0]["verdict"] == "no difference shown"
    assert compared(a, b, margin=0.01)["rows"][0]["verdict"] == "slower"


def test_rows_that_cannot_be_compared() -> None:
    few = compared([of([1.0, 2.0, 3.0])], [of([9.0, 9.0, 9.0])])["rows"][0]
    assert (few["verdict"], few["p"], few["low"]) == ("too few samples", None, None) and few["ratio"] == 4.5
    zero = compared([of([0.0] * 100)], [of([1.0] * 100)])["rows"][0]
    assert zero["verdict"] == "too few samples" and zero["ratio"] is None
    a = profiles.read(json.dumps(profile(row(instructions_m=5.0), basis="emulated")).encode())
    (untimed,) = profiles.compare(a, a)["rows"]
    assert untimed["verdict"] == "not timed" and untimed["ratio"] is None


def test_what_differs_around_them() -> None:
    one = profile(row(), row(length=32), files={"models/fp32.onnx": "a" * 64}, board="pi4")
    other = profile(row(), row(threads=2), files={"models/fp32.onnx": "b" * 64}, board="pi5")
    one["environment"] |= {"load_average": [0.1, 0, 0], "temperature_c": 40.0, "governor": "ondemand"}
    other["environment"] |= {"load_average": [0.3, 0, 0], "temperature_c": 52.0, "governor": "performance"}
    other["environment"]["versions"] = {"onnxruntime": "1.28.0", "numpy": "2.0.0"}
    found = profiles.compare(*(profiles.read(json.dumps(each).encode()) for each in (one, other)))
    assert {each["what"]: (each["a"], each["b"]) for each in found["differences"]} == {
        "board": ("pi4", "pi5"),
        "files.models/fp32.onnx": ("a" * 64, "b" * 64),
        "environment.temperature_c": (40.0, 52.0),
        "environment.governor": ("ondemand", "performance"),
        "versions.onnxruntime": ("1.27.0", "1.28.0"),
        "versions.numpy": (None, "2.0.0"),
    }
    assert found["busy"] == []
    assert [each["length"] for each in found["only_a"]] == [32]
    assert [each["threads"] for each in found["only_b"]] == [2]


def test_a_busy_machine_is_told() -> None:
    quiet, busy = profile(), profile()
    quiet["environment"] |= {"cpus": 4, "load_average": [0.9, 3.0, 3.0]}
    busy["environment"] |= {"cpus": 4, "load_average": [1.1, 0.0, 0.0]}
    assert profiles.compare(*(profiles.read(json.dumps(each).encode()) for each in (quiet, busy)))["busy"] == ["b"]
