"""The training loop: batches, determinism, resuming, several processes, and that it learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from edgekit.data import TextSet
from edgekit.distill import folder as folders
from edgekit.distill import loop
from edgekit.distill.answers import Wanted, answers_key, compute, open_answers
from edgekit.distill.batches import IGNORED, Tokens, collate, epoch, tokenize
from edgekit.distill.encoder import Encoder
from edgekit.distill.loop import LoopConfig, epochs_for, train
from edgekit.distill.teach import TeachObjective
from edgekit.errors import StageError
from tests.distill.train_once import TEXTS

SCRIPT = Path(__file__).with_name("train_once.py")
# Without an MPI, accelerate starts several CPU processes by the road that it calls multi_gpu (torchrun, then gloo).
LAUNCH = {
    1: ["--cpu", "--num_processes", "1"],
    2: ["--multi_gpu", "--num_processes", "2", "--main_process_port", "29631"],
}
CONFIG = LoopConfig(
    epochs=3, min_steps=1, batch_size=8, learning_rate=1e-4, head_learning_rate=1e-3, warmup=0.1, weight_decay=0.01,
    patience=2, accumulate=1, seed=0, bf16=False, threads=1,
)  # fmt: skip
DATA = TextSet(texts=TEXTS, labels=np.array([int(t.startswith("good")) for t in TEXTS]))


def _tokens(lengths: list[int]) -> Tokens:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(np.arange(offsets[-1], dtype=np.int32), offsets, 0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 5), st.integers(1, 3))
def test_an_epoch_shows_every_text_once_whatever_the_processes(
    lengths: list[int], size: int, number: int, ranks: int
) -> None:
    tokens = _tokens(lengths)
    whole = epoch(tokens, size, 1, number)
    assert sorted(int(i) for batch in whole for i in batch) == list(range(len(lengths)))
    parts = [epoch(tokens, size, 1, number, rank, ranks) for rank in range(ranks)]
    assert len({tuple(len(b) for b in part) for part in parts}) == 1  # all processes take the same steps
    shown = [int(i) for part in parts for batch in part for i in batch]
    assert len(shown) == len(set(shown)) >= len(lengths) - len(whole) * (ranks - 1)


def test_collate_pads_and_masks() -> None:
    batch = collate(_tokens([2, 4]), np.array([1, 0]))
    assert batch.input_ids.tolist() == [[2, 3, 4, 5], [0, 1, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_tags_stand_on_the_first_piece_of_each_word(tiny_encoder: Path) -> None:
    _, tokenizer = folders.load(tiny_encoder)
    data = TextSet(texts=["unflinchingly good film"], tags=[[(0, 13, 2), (14, 18, 1), (19, 23, 0)]])
    tokens = tokenize(tokenizer, data, 64, 0)
    assert tokens.token_labels is not None
    labels = tokens.token_labels.tolist()
    assert labels[0] == labels[-1] == IGNORED
    assert [label for label in labels if label != IGNORED] == [2, 1, 0] and labels[1] == 2


def test_epochs_reach_min_steps_but_end_on_tiny_sets() -> None:
    assert epochs_for(80, CONFIG) == 3
    assert epochs_for(80, LoopConfig(**{**CONFIG.__dict__, "min_steps": 45})) == 5
    assert epochs_for(8, LoopConfig(**{**CONFIG.__dict__, "min_steps": 10_000})) == 50


def _train(
    source: Path, work: Path, config: LoopConfig = CONFIG, values: list[float] | None = None
) -> tuple[Encoder, dict]:  # type: ignore[type-arg]
    encoder, tokenizer = folders.load(source)
    given = iter(values or [0.1, 0.2, 0.3])
    report = train(
        TeachObjective(encoder, 0.0), tokenize(tokenizer, DATA, 64, 0), config, lambda _: next(given), work, "t"
    )
    return encoder, report


def _same(a: Encoder, b: Encoder) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.slow
def test_it_learns_and_the_same_seed_gives_the_same_bytes(tiny_encoder: Path, tmp_path: Path) -> None:
    first, report = _train(tiny_encoder, tmp_path / "a")
    second, _ = _train(tiny_encoder, tmp_path / "b")
    assert _same(first, second)
    losses = [h["loss"] for h in report["history"]]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_the_best_epoch_is_kept_and_patience_ends_the_run(tiny_encoder: Path, tmp_path: Path) -> None:
    one, _ = _train(tiny_encoder, tmp_path / "a", LoopConfig(**{**CONFIG.__dict__, "epochs": 5}), [0.9, 0.1, 0.1, 0.1])
    _, report = _train(tiny_encoder, tmp_path / "b", LoopConfig(**{**CONFIG.__dict__, "epochs": 5}), [0.9, 0.1, 0.1])
    assert report["epochs"] == 3 and report["best_epoch"] == 1
    stopped, _ = _train(tiny_encoder, tmp_path / "c", LoopConfig(**{**CONFIG.__dict__, "epochs": 5}), [0.9, 0.0, 0.0])
    assert _same(one, stopped)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_epoch_with_the_same_result(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = _train(tiny_encoder, tmp_path / "whole")
    real, calls = loop._one_epoch, []

    def dies_in_the_second(*args: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_one_epoch", dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        _train(tiny_encoder, tmp_path / "cut")
    monkeypatch.setattr(loop, "_one_epoch", real)
    resumed, report = _train(tiny_encoder, tmp_path / "cut", values=[0.2, 0.3])
    assert _same(whole, resumed) and len(report["history"]) == 3


def test_accumulated_small_batches_equal_one_large_batch(tiny_encoder: Path, tmp_path: Path) -> None:
    """Equal lengths, so that both ways cut the epoch into the same texts a step."""
    quiet = {**CONFIG.__dict__, "epochs": 1}
    encoders = []
    for name, size, accumulate in (("large", 24, 1), ("small", 8, 3)):
        encoder, tokenizer = folders.load(tiny_encoder)
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for layer in encoder.layers:
            layer.attention.dropout = 0.0
        config = LoopConfig(**{**quiet, "batch_size": size, "accumulate": accumulate})
        tokens = tokenize(tokenizer, DATA, 64, 0)
        assert len(set(tokens.lengths.tolist())) == 1
        train(TeachObjective(encoder, 0.0), tokens, config, lambda _: 1.0, tmp_path / name, "t")
        encoders.append(encoder)
    for a, b in zip(encoders[0].state_dict().values(), encoders[1].state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=2e-5)


def test_a_loss_that_diverges_is_an_error(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="learning rate"):
        _train(tiny_encoder, tmp_path, LoopConfig(**{**CONFIG.__dict__, "learning_rate": 1e38, "epochs": 2}))


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_cached_teacher_answers_are_the_teachers(task: str, tiny_encoder: Path, tmp_path: Path) -> None:
    encoder, tokenizer = folders.load(tiny_encoder)
    encoder.config.task = task
    tokens = tokenize(tokenizer, DATA, 64, 0)
    wanted = Wanted(hidden=(0, 2), qkv=(2,))
    compute(encoder, tokens, wanted, tmp_path / "answers", bf16=False)
    answers = open_answers(tmp_path / "answers", encoder, tokens)
    assert isinstance(answers.arrays["hidden.2"], np.memmap)
    batch = collate(tokens, np.array([3, 0, 11]))
    with torch.inference_mode():
        states = encoder.states(batch.input_ids, batch.attention_mask)
    real = batch.attention_mask[..., None]
    assert torch.allclose(answers.hidden(2, batch), states.hidden[2] * real, atol=5e-3)
    assert torch.allclose(answers.qkv(2, batch)[0], states.qkv[1][0] * real[:, None], atol=2e-2)
    expected = states.output * real if task == "tag" else states.output
    assert torch.allclose(answers.outputs(batch), expected, atol=1e-4)
    assert answers_key("a", tokens, wanted, False) != answers_key("a", tokens, Wanted(), False)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tiny_encoder: Path, tmp_path: Path) -> None:
    found = {}
    root = Path(__file__).resolve().parents[2]
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        run = subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH[processes], "--num_machines", "1",
             "--mixed_precision", "no", "--dynamo_backend", "no", str(SCRIPT), str(tiny_encoder), str(out)],
            capture_output=True, text=True, timeout=300, cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-2000:]
        assert f"processes {processes}" in run.stdout
        found[processes] = load_file(out / "model.safetensors")
    source = load_file(tiny_encoder / "model.safetensors")
    moved = sum(float((found[1][k] - source[k]).abs().sum()) for k in source)
    apart = sum(float((found[1][k] - found[2][k]).abs().sum()) for k in source)
    assert moved > 0 and apart < 0.01 * moved, f"moved {moved}, apart {apart}"
