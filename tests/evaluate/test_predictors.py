from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data import TextSet
from edgekit.errors import ModelError
from edgekit.evaluate import RuntimePredictor, TorchPredictor, agreement, parity, predict
from edgekit.runtimes.load import load

LONG = "the film was long and " * 60
TEXTS = ["a charming, funny film", "no", LONG, "x", "it runs for two hours"]


@pytest.fixture(scope="module")
def torch_model(tiny_encoder: Path) -> TorchPredictor:
    return TorchPredictor(tiny_encoder, threads=1)


@pytest.fixture(scope="module")
def runtime_model(small_bundle: Path) -> RuntimePredictor:
    return RuntimePredictor(load(small_bundle, threads=1), 7)


def test_two_engines_agree_on_texts_of_any_length(torch_model: TorchPredictor, runtime_model: RuntimePredictor) -> None:
    a, b = torch_model.outputs(TEXTS), runtime_model.outputs(TEXTS)
    assert a.shape == b.shape == (5, 3)
    near = parity(a, b)
    assert near.cosine_min > 0.9999
    assert near.max_abs < 1e-3
    assert agreement("classify", a, b) == 1.0


def test_outputs_do_not_depend_on_the_slices(torch_model: TorchPredictor) -> None:
    texts = [f"film number {i} was fine" for i in range(1030)]
    whole = torch_model.outputs(texts)
    assert whole.shape == (1030, 3)
    np.testing.assert_allclose(whole[600:603], torch_model.outputs(texts[600:603]), atol=1e-4)


def test_an_answer_runs_with_the_threads_that_were_asked_for(torch_model: TorchPredictor) -> None:
    import torch

    torch_model.outputs(["warm"])
    torch_model.answer("a charming film")
    assert torch.get_num_threads() == 1


def test_answers_and_sizes(torch_model: TorchPredictor, runtime_model: RuntimePredictor, tiny_encoder: Path) -> None:
    assert runtime_model.answer("no").labels[0] in ("negative", "neutral", "positive")
    assert torch_model.size_bytes > (tiny_encoder / "model.safetensors").stat().st_size
    assert runtime_model.size_bytes == 7


def test_pairs_give_two_matrices(torch_model: TorchPredictor) -> None:
    data = TextSet(texts=["a", "b"], pairs=["c", "d"], scores=np.zeros(2, np.float32))
    first, second = predict(torch_model, data)
    assert first.shape == second.shape == (2, 3)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        TorchPredictor(tmp_path)
