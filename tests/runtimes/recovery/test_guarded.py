"""A guarded model answers right or not at all, and says why."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.errors import BundleError, EdgekitWarning, InputError, NoAnswer
from edgekit.runtimes import Guarded
from edgekit.runtimes.recovery import Event, keeper
from tests import clip_bundles
from tests.runtimes import tiny
from tests.runtimes.recovery.conftest import Make, until
from tests.runtimes.recovery.faulty import Faults

KINDS = {"throw": "throw", "nan": "not finite", "shape": "shape", "rows": "shape", "dtype": "shape", "hang": "hang"}


def steps(model: Guarded) -> list[str]:
    return [event.step for event in model.events]


def test_it_has_the_face_of_a_model(bundle: Path, make: Make, right: np.ndarray) -> None:
    plain, model = edgekit.load(bundle, threads=1), make(bundle)
    assert model.run(tiny.TEXTS) == plain.run(tiny.TEXTS) == model.classify(tiny.TEXTS)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)
    assert np.allclose(model.raw(tiny.TEXTS)[""], right, atol=1e-5)
    prepared = model.prepare(tiny.TEXTS[0])
    assert model.finish(prepared, model.forward(prepared)) == plain.run(tiny.TEXTS[0])
    for name in ("spec", "engine", "engine_version", "file", "precision", "threads", "towers"):
        assert getattr(model, name) == getattr(plain, name)
    assert model.token_ids("no") == plain.token_ids("no")
    assert model.bundle == bundle
    assert model.run([]).labels == []


def test_a_wrong_question_is_no_fault(bundle: Path, make: Make) -> None:
    model = make(bundle)
    for ask, wrong in ((model.run, None), (model.embed, "no"), (model.prepare, [b"no"]), (model.embed_texts, "no")):
        with pytest.raises(InputError):
            ask(wrong)
    assert steps(model) == ["start"]


@pytest.mark.parametrize("fault", KINDS)
def test_a_fault_costs_a_restart_and_the_answer_is_right(
    fault: str, bundle: Path, make: Make, faults: Faults, right: np.ndarray
) -> None:
    model = make(bundle)
    faults.once(fault)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)
    assert steps(model) == ["start", "fault", "restart"]
    health = model.health()
    assert health["faults"] == {KINDS[fault]: 1}
    assert health["state"] == "serving" and health["no_answers"] == 0
    assert len(health["recovery_ms"]) == 1
    assert "fp32.onnx" in model.events[1].reason


def test_without_patience_a_fault_costs_one_answer(bundle: Path, make: Make, faults: Faults) -> None:
    model = make(bundle, patience_ms=0)
    faults.once("throw")
    with pytest.raises(NoAnswer, match="lost its mind") as caught:
        model.run("no")
    assert not caught.value.restart_process
    until(lambda: model.health()["state"] == "serving")
    assert len(model.run("no")) == 1
    assert model.health()["no_answers"] == 1


def test_what_hangs_is_left_behind_and_its_late_answer_reaches_nobody(
    bundle: Path, make: Make, faults: Faults, right: np.ndarray
) -> None:
    model = make(bundle)
    faults.once("hang")
    began = time.monotonic()
    assert np.allclose(model.logits(tiny.TEXTS[0]), right[:1], atol=1e-5)
    assert time.monotonic() - began < 15
    assert (model.health()["abandoned_threads"], model.health()["abandoned_total"]) == (1, 1)
    faults.release.set()  # now it answers the first text, while others are asked for
    for number in (1, 2, 3, 4) * 5:
        assert np.allclose(model.logits(tiny.TEXTS[number]), right[number : number + 1], atol=1e-5)
    until(lambda: model.health()["abandoned_threads"] == 0)


def test_what_a_session_that_hung_frees_late_goes_back_to_the_system(
    bundle: Path, make: Make, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(bundle)
    engine, gone = faults.engines[-1], []
    monkeypatch.setattr(keeper, "give_back", lambda: gone.append(engine() is None))
    faults.once("hang")
    model.run("no")
    until(lambda: len(gone) == 1)  # before the next session served
    time.sleep(0.5)
    assert gone == [False]  # it is not asked for again while the first one hangs
    faults.release.set()
    until(lambda: gone == [False, True])


@pytest.mark.parametrize("fault", ["throw", "nan", "hang"])
def test_a_session_that_failed_is_gone_without_a_garbage_collection(
    fault: str, bundle: Path, make: Make, faults: Faults
) -> None:
    """Engines hold native memory, which Python's collector does not see grow."""
    model = make(bundle, patience_ms=0)
    kept = []  # the application may keep errors
    gc.collect()
    gc.disable()
    try:
        engine = faults.engines[-1]
        faults.once(fault)
        try:
            model.run("no")
        except NoAnswer as error:
            kept.append(error)
        until(lambda: model.health()["state"] == "serving")
        model.run("no")
        faults.release.set()
        until(lambda: engine() is None)
    finally:
        gc.enable()
    assert len(kept) == 1


@pytest.mark.slow
def test_too_many_that_hang_need_a_new_process(bundle: Path, make: Make, faults: Faults) -> None:
    model = make(bundle, max_abandoned=2, hang_deadlines=1, start_s=1)
    faults.always = {"onnxruntime": "hang"}
    with pytest.raises(NoAnswer) as caught:
        model.run("no")
    until(lambda: model.health()["restart_process"])
    with pytest.raises(NoAnswer, match="2 threads hang") as caught:
        model.run("no")
    assert caught.value.restart_process and "Restart the process" in str(caught.value)
    faults.always = {}
    faults.release.set()  # they come back after all
    until(lambda: model.health()["state"] == "serving")
    assert model.health()["abandoned_total"] == 2


def test_the_next_engine_serves_until_the_first_is_well_again(
    engines: Path, make: Make, faults: Faults, right: np.ndarray
) -> None:
    model = make(engines, engines=["onnxruntime", "openvino"], deadline_ms=1000)
    prepared = model.prepare(tiny.TEXTS[1])
    faults.always = {"onnxruntime": "throw"}
    np.testing.assert_allclose(model.logits(tiny.TEXTS), right, atol=1e-4)
    assert model.engine == "openvino"
    assert model.health()["state"] == "degraded"
    assert "next engine" in steps(model)
    raw = model.forward(prepared)  # what another session prepared is prepared again
    np.testing.assert_allclose(model.finish(prepared, raw).logits, right[1:2], atol=1e-4)
    faults.always = {}
    until(lambda: model.engine == "onnxruntime")
    assert model.events[-1].step == "return"
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)


def test_the_last_good_bundle_serves_while_the_first_is_damaged(
    bundle: Path, other: Path, make: Make, faults: Faults, right: np.ndarray, tmp_path: Path
) -> None:
    path = shutil.copytree(bundle, tmp_path / "main.edge")
    model = make(path, last_good=other)
    whole = (path / tiny.ONNX).read_bytes()
    (path / tiny.ONNX).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5), "what is in memory is whole"
    faults.once("throw")
    found = model.logits(tiny.TEXTS)
    assert model.bundle == other
    assert np.array_equal(found, edgekit.load(other, threads=1).logits(tiny.TEXTS))
    assert [event.step for event in model.events][:4] == ["start", "fault", "failed", "last good bundle"]
    assert "sha256" in model.events[2].reason
    (path / tiny.ONNX).write_bytes(whole)
    until(lambda: model.bundle == path)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)


@pytest.mark.slow
def test_when_nothing_is_left_the_error_says_when_to_ask_again(
    bundle: Path, other: Path, make: Make, faults: Faults, right: np.ndarray
) -> None:
    model = make(bundle, last_good=other, patience_ms=0, backoff_s=(1.5, 1.5))
    faults.always = {"onnxruntime": "nan"}
    with pytest.raises(NoAnswer, match="NaN"):
        model.run("no")
    until(lambda: steps(model).count("failed") == 2)
    with pytest.raises(NoAnswer) as caught:
        model.run("no")
    assert 0 <= caught.value.retry_after_s <= 1.5
    assert model.health()["state"] == "down"
    assert model.engine == "onnxruntime", "attributes stay"
    faults.always = {}
    until(lambda: model.health()["state"] == "serving")
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)


def test_an_input_that_breaks_engines_does_not_take_all_along(
    bundle: Path, other: Path, make: Make, faults: Faults
) -> None:
    model = make(bundle, last_good=other)
    faults.poison = 8  # tokens
    with pytest.raises(NoAnswer, match="lost its mind"):
        model.run("a b c a b c")
    assert model.health()["faults"] == {"throw": 3}
    assert len(model.run("a b c")) == 1
    until(lambda: model.bundle == bundle)


def test_drift_is_found_on_demand(bundle: Path, make: Make, faults: Faults, right: np.ndarray) -> None:
    model = make(bundle, recheck_minutes=None)
    assert model.check()
    assert model.events[-1].step == "check"
    faults.always = {"onnxruntime": "wrong"}
    assert not np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5), "finite and of the right shape"
    assert not model.check()
    assert model.health()["faults"]["drift"] >= 1
    faults.always = {}
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)


def test_drift_is_found_when_idle(bundle: Path, make: Make, faults: Faults) -> None:
    seen, checked = threading.Event(), threading.Event()

    def told(event: Event) -> None:
        {"fault": seen, "check": checked}.get(event.step, threading.Event()).set()
        raise RuntimeError("a hook that fails stops nothing")

    model = make(bundle, recheck_minutes=0.002, on_event=told)
    assert checked.wait(20)
    faults.always = {"onnxruntime": "wrong"}
    assert seen.wait(20)
    assert model.health()["faults"]["drift"] >= 1


def test_drift_is_found_under_load(bundle: Path, make: Make, faults: Faults) -> None:
    """A model that is never idle is checked too, at the latest after twice the time."""
    model = make(bundle, recheck_minutes=0.002, deadline_ms=60_000)  # idle: nothing for two minutes
    until(lambda: model.run("no") and "check" in steps(model))


def test_the_log_is_bounded_and_has_the_clock_that_was_given(bundle: Path, make: Make, faults: Faults) -> None:
    now = iter(range(1_000, 0, -1))  # a clock that runs backwards
    model = make(bundle, log_size=4, clock=lambda: float(next(now)))
    for _ in range(5):
        faults.once("throw")
        assert len(model.run("no")) == 1
        for _ in range(100):  # it settles
            model.run("good")
    assert len(model.events) == 4
    times = [event.time for event in model.events]
    assert times == sorted(times, reverse=True)
    assert model.health()["steps"]["restart"] == 5, "counters are of all"


def test_prometheus_text(bundle: Path, make: Make, faults: Faults) -> None:
    model = make(bundle)
    faults.once("nan")
    model.run("no")
    lines = [line for line in model.prometheus().splitlines() if not line.startswith("#")]
    found = dict(line.rsplit(" ", 1) for line in lines)
    assert found['edgekit_guard_faults_total{kind="not finite"}'] == "1"
    assert found["edgekit_guard_serving"] == "1"
    assert found["edgekit_guard_answers_total"] == "1"


@pytest.mark.slow
def test_several_threads_and_faults_at_random(bundle: Path, make: Make, faults: Faults, right: np.ndarray) -> None:
    model = make(bundle)
    wrong: list[Any] = []

    def ask(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(60):
            number = int(draw.integers(len(tiny.TEXTS)))
            if draw.random() < 0.05:
                faults.once(str(draw.choice(["throw", "nan", "shape"])))
            try:
                found = model.logits(tiny.TEXTS[number])
            except NoAnswer:
                continue
            if not np.allclose(found, right[number : number + 1], atol=1e-5):
                wrong.append((number, found))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert model.health()["faults"]


def test_what_cannot_start(bundle: Path, other: Path, make: Make, faults: Faults, tmp_path: Path) -> None:
    damaged = shutil.copytree(bundle, tmp_path / "damaged.edge")
    (damaged / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        make(damaged)
    with pytest.warns(EdgekitWarning, match=r"tokenizer\.json"):
        assert make(damaged, last_good=other).bundle == other
    faults.refuse = {"onnxruntime"}
    with pytest.raises(NoAnswer, match="does not start"):
        make(bundle, last_good=other, backoff_s=(60, 60))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"hang_deadlines": float("nan")}, "hang_deadlines"),
        ({"memory_mb": 100}, "memory_mb"),
        ({"engines": ["litert"]}, "engines"),
        ({"isolate": True, "wrap_engine": print}, "wrap_engine"),
        ({"threads": 0}, "threads"),
    ],
)
def test_what_cannot_be_asked_for(given: dict[str, Any], named: str, bundle: Path, make: Make) -> None:
    with pytest.raises(InputError, match=named):
        make(bundle, **given)


def test_closed(bundle: Path, make: Make) -> None:
    before = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(bundle)
    model.run("no")
    model.close()
    model.close()
    with pytest.raises(NoAnswer, match="closed"):
        model.run("no")
    until(lambda: threading.active_count() <= before)


@pytest.mark.slow
@pytest.mark.parametrize("isolate", [False, True])
def test_a_dual_encoder(isolate: bool, tmp_path: Path, make: Make, faults: Faults) -> None:
    onnx = clip_bundles.onnx_artifact(tmp_path)
    path = tmp_path / "photo.edge"
    clip_bundles.bundle(path, {"models/fp32.image.onnx": onnx})
    plain = edgekit.load(path, threads=1)
    model = make(path, isolate=isolate, deadline_ms=2000, patience_ms=60_000)
    picture, labels = clip_bundles.pictures()[0], clip_bundles.LABELS
    for ask in (
        lambda one: one.zero_shot(picture, labels).top(1)[0][0].name,
        lambda one: one.choose(picture, labels)[0].name,
        lambda one: one.prompts(labels).names,
        lambda one: sorted(one.towers),
    ):
        assert ask(model) == ask(plain)
    faults.once("nan")
    for name, given in (("embed_images", picture), ("embed_texts", labels), ("run", (picture, "a red square"))):
        for found, expected in zip(getattr(model, name)(given), getattr(plain, name)(given), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)
    if not isolate:
        assert model.health()["faults"] == {"not finite": 1}
    assert model.check()
    with pytest.raises(InputError, match="a model for task clip"):
        model.classify("no")
