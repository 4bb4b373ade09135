"""The three tasks on small real bundles: shapes, order, long texts, independence of neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bundle import TaskSpec
from edgekit.errors import EngineError, InputError, MissingDependencyError
from edgekit.runtimes.answers import softmax
from edgekit.runtimes.engines.onnxruntime import _quantizes_at_run_time
from edgekit.runtimes.model import Model

TEXTS = ["a funny film", "dull", "", "it never quite takes off , but one laughs " * 3, "日本語"]
LONG = "one two three four five six seven eight nine ten eleven " * 30
BundleOf = Callable[[str], Path]


@pytest.fixture(scope="module", params=["models/int8.onnx", "models/fp32.onnx"])
def file(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def close(file: str) -> float:
    return 0.0 if "int8" in file else 2e-5  # INT8 runs each text alone; fp32 sums in another order in a batch


def test_classify(bundle_of: BundleOf, file: str) -> None:
    model = edgekit.load(bundle_of("classify"), threads=1, file=file)
    found = model.run(TEXTS)
    assert found.logits.shape == (5, 3)
    assert found.logits.dtype == found.scores.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-6)
    assert found.labels == [model.spec.labels[i] for i in found.probabilities.argmax(1)]
    for i, text in enumerate(TEXTS):
        alone = model.classify(text)
        np.testing.assert_allclose(alone.logits[0], found.logits[i], atol=close(file))
        assert alone.labels == [found.labels[i]]
        np.testing.assert_allclose(alone.scores[0], found.scores[i], atol=1e-5)
        assert alone.top(2)[0][0] == (alone.labels[0], pytest.approx(alone.scores[0]))
    assert len(model.classify([])) == 0
    assert model.classify([]).probabilities.shape == (0, 3)
    assert model.classify([]).scores.shape == (0,)


def test_embed(bundle_of: BundleOf, file: str) -> None:
    model = edgekit.load(bundle_of("embed"), threads=1, file=file)
    found = model.run([*TEXTS, LONG])
    assert found.shape == (6, 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for i, text in enumerate([*TEXTS, LONG]):
        np.testing.assert_allclose(model.embed(text)[0], found[i], atol=close(file))
    assert model.embed([]).shape == (0, 384)


def test_tag(bundle_of: BundleOf, file: str) -> None:
    model = edgekit.load(bundle_of("tag"), threads=1, file=file)
    texts = ["My  unbelievable\tdog\u200b runs. \u200b \n", *TEXTS, LONG]
    found = model.run(texts)
    for text, tags in zip(texts, found, strict=True):
        words = [w for w in text.split() if w.strip("\u200b")]  # the tokenizer keeps nothing of U+200B
        assert [t.word for t in tags] == words
        assert all(text[t.start : t.end] == t.word and 1 / 3 <= t.score <= 1 for t in tags)
        assert [t[:4] for t in model.tag(text)[0]] == [t[:4] for t in tags]
    assert [len(scores) for scores in model.logits(texts)] == [len(text.split()) for text in texts]
    assert model.tag([]) == []
    assert model.tag("") == [[]]


def test_long_classify_is_the_stated_mean(bundle_of: BundleOf, file: str) -> None:
    model = edgekit.load(bundle_of("classify"), threads=1, file=file)
    pre = model.pipeline.preprocessor
    windows = pre.windows([LONG])
    assert len(windows) > 5
    rows = [model.loaded.run(np.array([w.ids]), np.ones((1, len(w.ids)), np.int64))[0] for w in windows]
    mean = np.average(rows, axis=0, weights=[w.tokens for w in windows])
    np.testing.assert_allclose(model.logits(LONG)[0], mean, atol=1e-5)
    # Beside others it gives the same, and they keep their own answers.
    mixed = model.logits(["dull", LONG, "fine"])
    np.testing.assert_allclose(mixed[1], mean, atol=3e-5)
    np.testing.assert_allclose(mixed[[0, 2]], model.logits(["dull", "fine"]), atol=close(file))


def test_long_tag_takes_each_word_where_it_sees_most(bundle_of: BundleOf) -> None:
    model = edgekit.load(bundle_of("tag"), threads=1, file="models/fp32.onnx")
    windows = model.pipeline.preprocessor.windows([LONG])
    rows = [model.loaded.run(np.array([w.ids]), np.ones((1, len(w.ids)), np.int64))[0] for w in windows]
    found = model.logits(LONG)[0]
    total = windows[-1].first + windows[-1].tokens
    assert len(found) == total == len(LONG.split())  # each of these words is one token
    for word in range(total):

        def margin(n: int, word: int = word) -> float:
            w = windows[n]
            left = word - w.first if w.first else np.inf
            return min(left, w.first + w.tokens - 1 - word if w.first + w.tokens < total else np.inf)

        inside = [n for n, w in enumerate(windows) if w.first <= word < w.first + w.tokens]
        best = max(inside, key=margin)
        np.testing.assert_allclose(found[word], rows[best][1 + word - windows[best].first], atol=3e-5)


@pytest.mark.slow
def test_a_text_of_100000_characters_reaches_the_answer(bundle_of: BundleOf) -> None:
    model = edgekit.load(bundle_of("embed"), threads=1)
    text = "word " * 20_000
    ended = model.embed(text[:-5] + " terrible" * 2000)
    assert float((ended @ model.embed(text).T)[0, 0]) < 0.999


def test_int8_answers_do_not_depend_on_the_neighbours(bundle_of: BundleOf) -> None:
    model = edgekit.load(bundle_of("embed"), threads=1, file="models/int8.onnx")
    assert not model.loaded.batching
    alone = model.embed("dull")[0]
    assert (model.embed(["dull", LONG, "$$$ !!!"])[0] == alone).all()


def test_the_operator_that_forbids_batching_is_found_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for before in (0, (1 << 20) - 5, (1 << 20) - 15, 1 << 20, (2 << 20) - 1):
        path.write_bytes(b"x" * before + b"DynamicQuantizeLinear" + b"x" * 10)
        assert _quantizes_at_run_time(path)
    path.write_bytes(b"DynamicQuantiz" + b"x" * (1 << 20) + b"e")
    assert not _quantizes_at_run_time(path)


def test_threads_give_the_same_answers(bundle_of: BundleOf, file: str) -> None:
    one, two = (edgekit.load(bundle_of("embed"), threads=n, file=file).embed(TEXTS) for n in (1, 2))
    np.testing.assert_allclose(one, two, atol=2e-5)


def test_prepare_forward_finish_is_run(bundle_of: BundleOf) -> None:
    for task in ("classify", "embed", "tag"):
        model = edgekit.load(bundle_of(task), threads=1)
        for inputs in ("a funny film", TEXTS):
            prepared = model.prepare(inputs)
            found = model.finish(prepared, model.forward(prepared))
            outputs = model.logits(inputs)
            found = found.logits if task == "classify" else found
            for a, b in zip(found, outputs, strict=True):
                assert (a == b).all()


def test_the_wrong_verb_says_which_is_right(bundle_of: BundleOf) -> None:
    with pytest.raises(InputError, match=r"expected embed\(\)"):
        edgekit.load(bundle_of("embed")).classify("x")


@pytest.mark.parametrize("bad", [None, float("nan"), 7, b"x", ["a", None], "\ud800", ["a", "\udfff"]])
def test_bad_input_is_typed(bundle_of: BundleOf, bad: object) -> None:
    for task in ("classify", "tag"):
        with pytest.raises(InputError, match="input"):
            edgekit.load(bundle_of(task), threads=1).run(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 100_000])
def test_bad_thread_counts(small_bundle: Path, threads: object) -> None:
    with pytest.raises(InputError, match="threads"):
        edgekit.load(small_bundle, threads=threads)  # type: ignore[arg-type]


def test_choosing_files_and_engines(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert edgekit.load(small_bundle).file == "models/int8.onnx"
    assert edgekit.load(small_bundle, engine="onnxruntime", file="models/fp32.onnx").precision == "fp32"
    with pytest.raises(InputError, match=r"models/fp32\.onnx"):
        edgekit.load(small_bundle, file="models/none.onnx")
    with pytest.raises(InputError, match="engine"):
        edgekit.load(small_bundle, engine="openvino")
    monkeypatch.setattr("edgekit.runtimes.engines.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install edgekit\[onnxruntime\]"):
        edgekit.load(small_bundle)


def test_model_files_that_do_not_fit(bundle_of: BundleOf, tmp_path: Path) -> None:
    root = bundle_of("classify")
    model, tokenizer = root / "models/fp32.onnx", root / "tokenizer.json"
    with pytest.raises(EngineError, match="3 classes"):
        Model.from_files(model, tokenizer, TaskSpec("classify", ["a", "b"], 64, 16))
    with pytest.raises(EngineError, match="outputs"):
        Model.from_files(model, tokenizer, TaskSpec("classify", ["a", "b", "c"], 64, 16), output="embeddings")
    with pytest.raises(EngineError, match="inputs"):
        Model.from_files(model, tokenizer, TaskSpec("embed", [], 64, 16), inputs=("input_ids", "mask"))
    (tmp_path / "broken.onnx").write_bytes(model.read_bytes()[:5000])
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        Model.from_files(tmp_path / "broken.onnx", tokenizer, TaskSpec("embed", [], 64, 16))
    loaded = Model.from_files(model, tokenizer, TaskSpec("embed", [], 64, 16)).loaded
    with pytest.raises(EngineError, match="failed on an input"):
        loaded.run(np.full((1, 3), 10**6), np.ones((1, 3), np.int64))


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e30, 0.0], [-1e30, -1e30]], np.float32)), [[1, 0], [0.5, 0.5]])
