"""A student that answers at several depths: its exits, what they are trained on, and the rungs cut out of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.data import TextSet
from edgekit.distill import folder as folders
from edgekit.distill.answers import Wanted, compute, open_answers
from edgekit.distill.batches import Batch, collate, tokenize
from edgekit.distill.encoder import Encoder
from edgekit.distill.student import DistillObjective, cut_layers, with_exits
from edgekit.recipe import DistillConfig

TEXTS = ["a charming, funny film", "dull", "the plot is thin and the jokes fall flat", "no"]


@pytest.fixture
def student(tiny_encoder: Path) -> Encoder:
    """Two layers, an exit after the first."""
    encoder, _ = folders.load(tiny_encoder)
    return with_exits(encoder, [1]).eval()


@pytest.fixture
def batch(tiny_encoder: Path) -> Batch:
    _, tokenizer = folders.load(tiny_encoder)
    tokens = tokenize(tokenizer, TextSet(texts=TEXTS, labels=np.array([0, 1, 2, 0])), 64, 0)
    return collate(tokens, np.arange(len(TEXTS)))


@torch.inference_mode()
def test_a_rung_answers_as_its_exit_and_survives_the_disk(
    student: Encoder, batch: Batch, tiny_encoder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    for parameter in student.exits.parameters():
        parameter.normal_(0.0, 0.3)
    states = student.states(batch.input_ids, batch.attention_mask)
    (early,) = student.exit_outputs(states, batch.attention_mask)
    _, tokenizer = folders.load(tiny_encoder)
    folders.save(student, tokenizer, tmp_path / "ladder")
    again, _ = folders.load(tmp_path / "ladder")
    assert again.config.exits == [1]
    for depth, wanted in ((1, early), (2, states.output)):
        rung = again.truncate(depth)
        assert rung.config.layers == depth and not rung.config.exits
        assert not [name for name in rung.state_dict() if name.startswith("exits")]
        assert torch.equal(rung(batch.input_ids, batch.attention_mask), wanted)
    with pytest.raises(ValueError, match="depth 3"):
        again.truncate(3)


def test_an_exit_starts_as_the_end_and_is_of_its_own(student: Encoder) -> None:
    assert student.classifier is not None
    assert torch.equal(student.state_dict()["exits.1.classifier.weight"], student.classifier.weight)
    student.classifier.weight.data.zero_()
    assert student.state_dict()["exits.1.classifier.weight"].abs().sum() > 0


def test_a_teacher_with_exits_gives_students_without(student: Encoder) -> None:
    assert cut_layers(student, [0]).config.exits == []


def test_every_exit_learns_from_the_teacher(tiny_encoder: Path, student: Encoder, tmp_path: Path) -> None:
    teacher, tokenizer = folders.load(tiny_encoder)
    tokens = tokenize(tokenizer, TextSet(texts=TEXTS, labels=np.array([0, 1, 2, 0])), 64, 0)
    compute(teacher, tokens, Wanted(hidden=(2,)), tmp_path / "answers", False)
    answers = open_answers(tmp_path / "answers", teacher, tokens)
    config = DistillConfig(losses={"hard": 0.0, "hidden_cosine": 0.0})  # type: ignore[arg-type]
    objective = DistillObjective(student, answers, config, 2)
    loss = objective(collate(tokens, np.arange(len(TEXTS))))
    loss.backward()
    early = student.get_submodule("exits.1.classifier")
    assert early.weight.grad is not None and early.weight.grad.abs().sum() > 0
    assert student.layers[1].up.weight.grad.abs().sum() < 1e-3, "the end answers as the teacher does: nothing to learn"
    before = float(loss.detach())
    optimizer = torch.optim.AdamW(student.exits.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = objective(collate(tokens, np.arange(len(TEXTS))))
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < before / 2


def test_layers_are_dropped_in_training_alone(student: Encoder, batch: Batch) -> None:
    student.layer_drop = 0.5
    whole = student.states(batch.input_ids, batch.attention_mask).hidden
    again = student.states(batch.input_ids, batch.attention_mask).hidden
    assert torch.equal(whole[2], again[2])
    torch.manual_seed(0)
    student.train()
    skipped, texts = 0, 0
    for _ in range(20):
        hidden = student.states(batch.input_ids, batch.attention_mask).hidden
        for before, after in pairwise(hidden):
            skipped += int((before == after).flatten(1).all(1).sum())
            texts += len(before)
    assert 0.35 < skipped / texts < 0.65
