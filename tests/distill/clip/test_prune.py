"""Pruning really shrinks towers, takes what matters least, and what it leaves saves, exports and runs."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.distill.clip.config import DualConfig, MciConfig, VitConfig
from edgekit.distill.clip.cut import cut_ffn, cut_heads, cut_vocabulary, drop_block, removable
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.importance import ffn_sites, head_sites, measure
from edgekit.distill.clip.prune import answers, drop_blocks, prune_image, prune_text, prune_vocabulary, work
from edgekit.distill.clip.reparam import reparameterize
from edgekit.distill.clip.towers import build_image, build_text
from edgekit.errors import ModelError, StageError
from tests.distill.clip.helpers import CLIP, IMAGES, MCI, TEXTS, WORDS, answer, exported, ids, lived, pictures

TRANSFORMERS = ["clip", "mct"]


def _image(kind: str) -> Any:
    torch.manual_seed(0)
    return lived(build_image(IMAGES[kind]))


def _text(kind: str) -> Any:
    torch.manual_seed(0)
    return lived(build_text(TEXTS[kind]))


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("merged", [False, True])
def test_a_pruned_image_tower_is_smaller_saves_and_answers_in_onnxruntime(
    kind: str, merged: bool, tmp_path: Path
) -> None:
    tower = reparameterize(_image(kind)) if merged else _image(kind)
    before = answers(tower, pictures(8))
    small = prune_image(tower, pictures(8), 0.3, multiple=8)
    assert _size(small) < 0.95 * _size(tower) and work(small, pictures(1)) < 0.95 * work(tower, pictures(1))
    assert torch.equal(answers(tower, pictures(8)), before)  # the original is as it was
    model = DualEncoder(DualConfig(small.config, CLIP), image=small).eval()
    model.save(tmp_path)
    again = DualEncoder.load(tmp_path).merged().image
    session = exported(again, {"images": pictures(2)}, tmp_path / "image.onnx")
    with torch.inference_mode():
        expected = small(pictures(3))
    np.testing.assert_allclose(answer(session, {"images": pictures(3)}), expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_pruned_text_tower_is_smaller_saves_and_answers_in_onnxruntime(kind: str, tmp_path: Path) -> None:
    tower = _text(kind)
    small = prune_text(tower, ids(8), ffn=0.3, heads=0.25, layers=1, multiple=8)
    assert len(small.layers) == 2 and sum(small.config.heads) == 6 and _size(small) < 0.8 * _size(tower)
    model = DualEncoder(DualConfig(MCI, small.config), text=small).eval()
    model.save(tmp_path)
    again = DualEncoder.load(tmp_path).merged().text
    session = exported(again, {"input_ids": ids(2)}, tmp_path / "text.onnx")
    with torch.inference_mode():
        np.testing.assert_allclose(answer(session, {"input_ids": ids(5)}), small(ids(5)).numpy(), atol=2e-5)


@pytest.mark.parametrize("kind", [*IMAGES, *TRANSFORMERS])
def test_channels_that_never_change_go_first_and_cost_nothing(kind: str) -> None:
    """Their value, not zero, lives on in a bias: the answers stay."""
    tower = _text(kind) if kind in TRANSFORMERS else _image(kind)
    inputs = ids(6) if kind in TRANSFORMERS else pictures(6)
    sites = ffn_sites(tower)
    for site in sites:
        _freeze(site.block, 8)
    with torch.inference_mode():
        expected = tower(inputs)
    for method in ("activation", "taylor"):
        found = measure(tower, inputs, ffn_sites, method)
        if method == "activation":
            assert all(m.score[:8].max() < 1e-6 * m.score[8:].max() for m in found)
            keep = [list(range(8, len(m.score))) for m in found]
            small = cut_ffn(tower, keep, [m.mean for m in found]).eval()
    assert [len(m.score) - 8 for m in found] == [s.consumer.weight.shape[1] for s in ffn_sites(small)]
    with torch.inference_mode():
        torch.testing.assert_close(small(inputs), expected, atol=2e-5, rtol=1e-4)


def _freeze(block: nn.Module, count: int) -> None:
    """The first hidden channels give a constant that is not zero (inside a picture and at its border)."""
    up = getattr(getattr(block, "mlp", block), "up", None)
    with torch.no_grad():
        if up is not None:
            up.weight[:count], up.bias[:count] = 0.0, 0.7
            return
        for part in (block.expand, block.depthwise):
            part.conv.weight[:count] = 0.0
            part.norm.bias[:count] = part.norm.running_mean[:count] * part.norm.weight[:count] + 0.7


@pytest.mark.parametrize("method", ["activation", "taylor"])
def test_heads_that_do_nothing_are_found_and_go(method: str) -> None:
    tower = _text("clip")
    dim = CLIP.head_dim
    with torch.no_grad():
        for i, layer in enumerate(tower.layers):
            layer.attention.out.weight[:, i * dim : (i + 1) * dim] = 0
    found = measure(tower, ids(6), head_sites, method)
    assert [int(m.score.argmin()) for m in found] == [0, 1, 2] and all(m.score.min() == 0 for m in found)
    small = prune_text(tower, ids(6), heads=0.25, method=method)
    assert small.config.heads == (3, 3, 3) and small.layers[0].attention.qkv.weight.shape == (3 * 3 * dim, 48)
    with torch.inference_mode():
        torch.testing.assert_close(small(ids(6)), tower(ids(6)), atol=1e-5, rtol=1e-4)


def test_activation_importance_is_the_energy_that_a_unit_adds() -> None:
    """Against a direct statement: run the block's last layer with one unit alone, about its mean."""
    tower = reparameterize(_image("vit"))
    seen: dict[str, torch.Tensor] = {}
    layer = tower.layers[1]
    layer.attention.out.register_forward_pre_hook(lambda m, args: seen.update(x=args[0]))
    layer.register_forward_hook(lambda m, args, out: seen.update(out=out))
    with torch.inference_mode():
        tower(pictures(4))
    dim, found = 12, measure(tower, pictures(4), head_sites, "activation")[1]
    for head in range(4):
        columns = slice(head * dim, (head + 1) * dim)
        part = seen["x"][..., columns] @ layer.attention.out.weight[:, columns].T
        centred = (part - part.mean((0, 1))).square().sum(-1).mean()
        expected = float((centred / seen["out"].square().sum(-1).mean()).detach())
        assert found.score[head] == pytest.approx(expected, rel=1e-3)


def test_taylor_importance_is_the_mean_over_inputs_of_each_ones_own_gradient() -> None:
    tower = _image("mci")
    whole = measure(tower, pictures(1), ffn_sites, "taylor", seed=5)
    twice = measure(tower, pictures(1).repeat(2, 1, 1, 1), ffn_sites, "taylor", seed=5)
    assert whole[0].score.shape == (48,) and whole[0].score.max() > 0
    signs = torch.randint(0, 2, (1, 24), generator=torch.Generator().manual_seed(5)).float() * 2 - 1
    merged = reparameterize(tower)
    down = merged.stages[0].blocks[0].mlp.down
    base, step = down.weight.detach()[:, 3].clone(), 1e-2
    values = []
    for factor in (1 + step, 1 - step):
        down.weight.data[:, 3] = base * factor
        values.append(float((answers(merged, pictures(1)) * signs).sum()))
    slope = (values[0] - values[1]) / (2 * step)
    assert whole[0].score[3] == pytest.approx(slope**2, rel=0.05, abs=1e-9)
    assert all(np.isfinite(m.score).all() for m in twice)


def test_padding_after_the_end_of_a_causal_text_does_not_count() -> None:
    tower, rows = _text("clip"), ids(6)
    other = torch.where(rows == 0, 9, rows)
    found = [measure(tower, inputs, ffn_sites, "activation") for inputs in (rows, other)]
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one.score, two.score, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mci", "vit", "clip"])
def test_the_block_that_does_nothing_goes_first(kind: str) -> None:
    tower = _text(kind) if kind == "clip" else _image(kind)
    inputs = ids(6) if kind == "clip" else pictures(6)
    with torch.no_grad():
        if kind == "mci":
            block = tower.stages[2].blocks[1]
            block.mixer.scale.zero_()
            block.mlp.scale.zero_()
            number = 4
        else:
            for linear in (tower.layers[1].attention.out, tower.layers[1].down):
                linear.weight.zero_()
                linear.bias.zero_()
            number = 1
    assert number in removable(tower)
    small = drop_blocks(tower, inputs, 1)
    assert len(removable(small)) < len(removable(tower))
    with torch.inference_mode():
        torch.testing.assert_close(small(inputs), tower(inputs), atol=1e-6, rtol=1e-5)
    for name, value in drop_block(tower, number).state_dict().items():
        assert torch.equal(value, small.state_dict()[name])


def test_only_blocks_that_can_be_skipped_are_removable() -> None:
    assert removable(_image("lite")) == [2, 4]
    assert removable(_image("mci")) == [0, 1, 3, 4, 5, 6]  # the second stage has one block, which stays
    with pytest.raises(ModelError, match="block"):
        drop_block(_image("mci"), 2)
    with pytest.raises(StageError, match="at most 2"):
        drop_blocks(_image("vit"), pictures(1), 3)


def test_work_counts_multiply_adds_as_by_hand() -> None:
    config = VitConfig(embed_dim=4, image_size=4, patch=2, width=6, head_dim=3, heads=(2,), ffn=(5,), pooling="mean")
    patches, rows = 4 * (3 * 2 * 2) * 6, 4 * (6 * 18 + 6 * 6 + 6 * 5 + 5 * 6)
    assert work(build_image(config), pictures(1, 4)) == patches + rows + 6 * 4


def test_a_vocabulary_is_cut_to_ranks_and_texts_of_kept_words_answer_as_before() -> None:
    tower = _text("clip")
    keep = sorted({int(i) for i in ids(3).flatten()} | {WORDS - 1})
    small = prune_vocabulary(tower, keep)
    rank = {old: new for new, old in enumerate(keep)}
    rows = torch.tensor([[rank[int(i)] for i in row] for row in ids(3)])
    with torch.inference_mode():
        assert torch.equal(small(rows), tower(ids(3)))
    assert small.word.weight.shape[0] == small.config.vocab_size == len(keep) < WORDS
    assert build_text(small.config).load_state_dict(small.state_dict())
    for wrong in ([], [1, 2], [WORDS, WORDS - 1], [-1, WORDS - 1]):
        with pytest.raises(ModelError, match="vocabulary"):
            cut_vocabulary(tower, wrong)


def test_a_pruned_tower_can_be_trained_on() -> None:
    tower = _image("mci").train()
    small = prune_image(tower, pictures(4), 0.3, blocks=1, multiple=8)
    assert small.training and tower.training
    small(pictures(4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())


def test_what_cannot_be_pruned_is_named() -> None:
    tower = _image("mci")
    for share in (-0.1, 1.0):
        with pytest.raises(ModelError, match="share"):
            prune_image(tower, pictures(1), share)
    with pytest.raises(ModelError, match="heads"):
        prune_image(tower, pictures(1), 0.0, heads=0.5)
    with pytest.raises(ModelError, match="magnitude"):
        prune_image(tower, pictures(1), 0.5, method="magnitude")


def test_cutting_all_heads_but_one_leaves_the_rest_as_they_were() -> None:
    tower = _image("vit")
    found = measure(tower, pictures(3), head_sites, "activation")
    same = cut_heads(tower, [list(range(4))] * 3, [m.mean for m in found]).eval()
    with torch.inference_mode():
        torch.testing.assert_close(same(pictures(3)), tower(pictures(3)), atol=1e-6, rtol=1e-6)
    one = cut_heads(tower, [[1]] * 3, [m.mean for m in found])
    assert one.config.heads == (1, 1, 1) and one.layers[2].attention.out.weight.shape == (48, 12)


@pytest.mark.slow
def test_pruning_lowers_the_latency_in_onnxruntime(tmp_path: Path) -> None:
    """Half the hidden channels and a third of the blocks of a tower large enough to time, side by side in one loop."""
    torch.manual_seed(0)
    wide = MciConfig(24, 128, (32, 64, 128, 256), ((96,) * 2, (192,) * 3, (384,) * 4, (768,) * 2), layer_scale=0.3)
    tower = lived(build_image(wide))
    assert not isinstance(tower, nn.Sequential)
    small = prune_image(tower, pictures(8, 128), 0.5, blocks=3)  # type: ignore[type-var]
    x = {"images": pictures(1, 128)}
    sessions = [exported(reparameterize(t), x, tmp_path / f"{i}.onnx") for i, t in enumerate((tower, small))]
    times: list[list[float]] = [[], []]
    for _ in range(40):
        for session, found in zip(sessions, times, strict=True):
            start = time.perf_counter()
            answer(session, x)
            found.append(time.perf_counter() - start)
    assert statistics.median(times[1]) < 0.85 * statistics.median(times[0])
