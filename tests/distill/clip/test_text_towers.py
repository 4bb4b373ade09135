"""Text towers see what they should, end where the text ends, and answer in engines as they do in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.distill import folder as folders
from edgekit.distill.clip.config import BertConfig, TextConfig
from edgekit.distill.clip.reparam import reparameterize
from edgekit.distill.clip.text import BertTower
from edgekit.distill.clip.towers import build_text
from edgekit.distill.clip.transformer import causal_mask
from edgekit.errors import ModelError
from tests.distill.clip.helpers import BERT, CLIP, LENGTH, MCT, TEXTS, WORDS, answer, exported, ids, lived, mask_of


def _inputs(kind: str, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"input_ids": rows, **({"attention_mask": mask_of(rows)} if kind == "bert" else {})}


@pytest.mark.parametrize("kind", TEXTS)
def test_onnxruntime_and_torch_export_answer_as_torch(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = reparameterize(lived(build_text(TEXTS[kind])))
    session = exported(tower, _inputs(kind, ids(2)), tmp_path / "text.onnx")
    for batch in (1, 5):
        inputs = _inputs(kind, ids(batch))
        with torch.inference_mode():
            expected = tower(*inputs.values())
        assert expected.shape == (batch, 24) and expected.dtype == torch.float32
        np.testing.assert_allclose(answer(session, inputs), expected.numpy(), atol=1e-5)
    inputs = _inputs(kind, ids(1))
    program = torch.export.export(tower, tuple(inputs.values()))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(*inputs.values()), tower(*inputs.values()), atol=1e-5, rtol=0)


def test_the_hybrid_merges_exactly() -> None:
    torch.manual_seed(0)
    tower = lived(build_text(MCT))
    merged = reparameterize(tower)
    with torch.inference_mode():
        before, after = tower(ids()), merged(ids())
    assert (before - after).abs().max() < 1e-5 and before.abs().max() > 0.05
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in merged.modules())


def test_a_causal_text_is_not_changed_by_what_follows_its_end() -> None:
    tower = build_text(CLIP).eval()
    rows = ids()
    padded = rows.clone()
    for row in padded:
        row[int(row.argmax()) + 1 :] = WORDS - 1  # CLIP's own padding repeats the end
    with torch.inference_mode():
        expected = tower(rows)
        assert torch.equal(tower(padded), expected)
        short = rows[:1, : int(rows[0].argmax()) + 1]
        assert torch.allclose(tower(short), expected[:1], atol=1e-6)
        changed = rows.clone()
        changed[:, 0] = WORDS - 2
        assert (tower(changed) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["mct", "last"])
def test_a_text_that_is_not_causal_sees_its_padding_and_says_so(kind: str) -> None:
    tower = lived(build_text(TEXTS[kind]))
    rows = ids()
    other = torch.where(rows == 0, 7, rows)
    with torch.inference_mode():
        assert (tower(rows) - tower(other)).abs().max() > 1e-4
    assert TEXTS[kind].fixed_length and not CLIP.fixed_length and not BERT.fixed_length


def test_bert_ignores_padding_by_its_mask() -> None:
    tower = build_text(BERT).eval()
    rows = ids()
    with torch.inference_mode():
        expected = tower(rows, mask_of(rows))
        assert torch.allclose(tower(torch.where(rows == 0, 7, rows), mask_of(rows)), expected, atol=1e-4)


def test_eos_id_names_the_end_where_it_is_not_the_highest() -> None:
    torch.manual_seed(0)
    tower = build_text(replace(CLIP, eos_id=3)).eval()
    highest = build_text(CLIP).eval()
    highest.load_state_dict(tower.state_dict())
    rows = torch.tensor([[5, 9, 3, 50, 3, 3]])
    with torch.inference_mode():
        moved = torch.tensor([[5, 9, 3]])
        assert torch.allclose(tower(rows), tower(moved), atol=1e-6)
        assert (tower(rows) - highest(rows)).abs().max() > 1e-4


def test_the_mask_is_finite_and_hides_the_future_in_half_precision() -> None:
    mask = causal_mask(LENGTH)
    assert torch.isfinite(mask.half()).all() and (mask == mask.half().float()).all()
    weights = (torch.randn(LENGTH, LENGTH) * 20 + mask).softmax(-1)
    assert weights.triu(1).max() == 0 and torch.allclose(weights.sum(-1), torch.ones(LENGTH))


def test_training_and_evaluation_compute_the_same_causal_attention() -> None:
    tower = build_text(CLIP)
    with torch.inference_mode():
        torch.testing.assert_close(tower.train()(ids()), tower.eval()(ids()), atol=1e-5, rtol=1e-4)


def test_a_real_bert_becomes_a_tower(tiny_encoder: Path) -> None:
    """Even one that had a head for classes; the body's weights are taken over, unit length is not."""
    encoder, _ = folders.load(tiny_encoder)
    tower = BertTower.of(encoder, 24)
    rows = torch.tensor([[101, 1037, 4569, 2143, 102], [101, 2053, 102, 0, 0]])
    with torch.inference_mode():
        out = tower(rows, mask_of(rows))
        hidden = encoder.states(rows, mask_of(rows)).hidden[-1]
        real = mask_of(rows)[:, :, None].float()
        expected = tower.projection((hidden * real).sum(1) / real.sum(1))
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    assert tower.config.encoder["task"] == "embed" and not tower.config.encoder["normalize"]


def test_impossible_texts_are_named() -> None:
    with pytest.raises(ModelError, match="pooling"):
        TextConfig(pooling="mean")
    with pytest.raises(ModelError, match="heads"):
        TextConfig(heads=(8,))
    with pytest.raises(ModelError, match=r"text\.encoder"):
        build_text(BertConfig(encoder={**BERT.encoder, "normalize": True}))
