"""The dual encoder normalises, bounds its temperature, and comes back from disk as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.distill.clip.config import DualConfig, MciConfig, TextConfig, VitConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.losses import contrastive
from edgekit.errors import ModelError
from tests.distill.clip.helpers import BERT, CLIP, IMAGES, LITE, MCI, MCT, TEXTS, VIT, ids, lived, mask_of, pictures


def _model(**changes: Any) -> DualEncoder:
    torch.manual_seed(0)
    model = lived(DualEncoder(DualConfig(**{"image": MCI, "text": CLIP, **changes})))
    assert isinstance(model, DualEncoder)
    return model


@pytest.mark.parametrize(("image", "text"), [("mci", "clip"), ("lite", "mct"), ("vit", "bert"), ("siglip", "last")])
@pytest.mark.parametrize("merged", [False, True])
def test_saved_and_loaded_it_answers_the_same(image: str, text: str, merged: bool, tmp_path: Path) -> None:
    model = _model(image=IMAGES[image], text=TEXTS[text], mean=(0.1, 0.2, 0.3), resize="squash", logit_bias=True)
    model = model.merged() if merged else model
    model.save(tmp_path / "model")
    again = DualEncoder.load(tmp_path / "model")
    assert again.config == model.config and not again.training
    rows = ids()
    with torch.inference_mode():
        ours, theirs = model(pictures(2), rows, mask_of(rows)), again(pictures(2), rows, mask_of(rows))
    for before, after in zip(ours, theirs, strict=True):
        torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-6)


def test_merging_both_towers_changes_no_answer() -> None:
    model = _model(text=MCT)
    merged = model.merged()
    with torch.inference_mode():
        assert (model.encode_images(pictures(3)) - merged.encode_images(pictures(3))).abs().max() < 1e-5
        assert (model.encode_texts(ids()) - merged.encode_texts(ids())).abs().max() < 1e-5
    assert not merged.config.image.branches and not merged.config.text.branches
    assert model.config.image.branches


def test_forward_normalises_what_the_towers_do_not() -> None:
    model = _model()
    with torch.inference_mode():
        raw = model.image(pictures(3))
        pair = model(pictures(3), ids(4))
        assert (raw.norm(dim=-1) - 1).abs().max() > 0.1
        torch.testing.assert_close(pair.image.norm(dim=-1), torch.ones(3))
        torch.testing.assert_close(pair.text.norm(dim=-1), torch.ones(4))
        cosine = torch.nn.functional.cosine_similarity(raw[:, None], model.text(ids(4))[None], dim=-1)
        torch.testing.assert_close(model.logits(pictures(3), ids(4)), cosine / 0.07, atol=1e-4, rtol=1e-4)


def test_siglip_starts_at_ten_and_minus_ten() -> None:
    model = _model(logit_bias=True)
    with torch.inference_mode():
        pair = model(pictures(2), ids(2))
        assert float(pair.scale) == pytest.approx(10) and float(pair.bias) == -10
        expected = 10 * pair.image @ pair.text.T - 10
        torch.testing.assert_close(model.logits(pictures(2), ids(2)), expected)


def test_the_temperature_never_passes_100_and_can_come_back() -> None:
    model = _model()
    model.logit_scale.data.fill_(9.0)
    assert model.scale().item() == pytest.approx(100, rel=1e-5)
    model.train()
    optimizer = torch.optim.SGD([model.logit_scale], lr=1.0)
    image, text = torch.eye(4), torch.eye(4).roll(1, 0)  # every pair wrong: the loss wants a smaller factor
    for _ in range(2):
        optimizer.zero_grad()
        contrastive(image, text, model.scale()).backward()
        optimizer.step()
    assert model.scale().item() < 100 and float(model.logit_scale) < math.log(100)


def test_a_dual_encoder_learns_pairs() -> None:
    torch.manual_seed(0)
    model = DualEncoder(DualConfig(image=VIT, text=CLIP)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, rows = pictures(4), ids(4)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        pair = model(x, rows)
        loss = contrastive(pair.image, pair.text, pair.scale)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    with torch.inference_mode():
        assert model.eval().logits(x, rows).argmax(-1).tolist() == [0, 1, 2, 3]


_WIDTHS = st.lists(st.integers(1, 64), min_size=1, max_size=4).map(tuple)


@given(_WIDTHS, _WIDTHS, st.sampled_from(["cls", "mean", "attention"]), st.booleans(), st.floats(-2, 2))
def test_every_config_comes_back_from_json(
    heads: tuple[int, ...], ffn: tuple[int, ...], pooling: str, bias: bool, mean: float
) -> None:
    layers = min(len(heads), len(ffn))
    image = VitConfig(embed_dim=24, heads=heads[:layers], ffn=ffn[:layers], pooling=pooling)
    text = TextConfig(embed_dim=24, heads=heads[:layers], ffn=ffn[:layers], eos_id=5 if bias else None)
    config = DualConfig(image, text, mean=(mean, 0.0, 1.0), logit_bias=bias)
    assert DualConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    config = DualConfig(MciConfig(embed_dim=24), BERT)
    assert DualConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    config = DualConfig(LITE, text)
    assert DualConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "clip"}, "model_type"),
        ({"image": None}, "image.kind"),
        ({"image": {"kind": "resnet"}}, "image.kind"),
        ({"text": {"kind": "transformer", "words": 3}}, "text.words"),
        ({"text": {"kind": "transformer", "width": "512"}}, "text.width"),
        ({"text": {"kind": "transformer", "heads": [8, "8"]}}, "text.heads"),
        ({"text": {"kind": "transformer", "heads": [8]}}, "heads, ffn"),
        ({"text": {"kind": "transformer", "embed_dim": 8}}, "text.embed_dim"),
        ({"mean": 0.5}, "config.mean"),
        ({"resize": "stretch"}, "resize"),
        ({"colour": "red"}, "config.colour"),
        ({"image": {"kind": "mci", "hidden": []}}, "hidden"),
        ({"image": {"kind": "vit", "heads": [], "ffn": []}, "logit_bias": "yes"}, "logit_bias"),
    ],
)
def test_a_damaged_config_names_its_field(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    _model().save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=named):
        DualEncoder.load(tmp_path)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    model = _model()
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        DualEncoder.load(tmp_path)
    _model(image=VIT).save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(whole)
    with pytest.raises(ModelError, match=r"the tensors of its config"):
        DualEncoder.load(tmp_path / "other")
    weights.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        DualEncoder.load(tmp_path)


def test_rows_of_zeros_stay_finite() -> None:
    model = _model(image=VIT)
    model.image.projection.weight.data.zero_()
    with torch.inference_mode():
        assert np.isfinite(model.encode_images(pictures(1)).numpy()).all()
