"""Least squares takes channels out in the best order it can, and blocks make good what they lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgekit.distill.clip.config import DualConfig
from edgekit.distill.clip.cut import cut_ffn
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.follow import BlocksObjective, block_outputs, share
from edgekit.distill.clip.importance import ffn_sites, measure
from edgekit.distill.clip.least_squares import Moments, eliminate, refit
from edgekit.distill.clip.pairs import PairBatch
from edgekit.distill.clip.reconstruct import (
    Price,
    allocate,
    effort,
    narrow_image,
    reconstruct,
    reconstruct_image,
    survey,
    without,
)
from edgekit.distill.clip.reparam import reparameterize
from edgekit.distill.clip.towers import build_image
from edgekit.errors import ModelError
from tests.distill.clip.helpers import CLIP, IMAGES, lived, pictures


def _image(kind: str) -> Any:
    torch.manual_seed(0)
    return reparameterize(lived(build_image(IMAGES[kind])))


def _rows(count: int, channels: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Channels that depend on one another, and answers that they give but for some noise."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(channels, channels, generator=generator)
    hidden = torch.randn(count, channels, generator=generator) @ mixed + 1.0
    wanted = hidden @ torch.randn(channels, outputs, generator=generator) + torch.randn(
        count, outputs, generator=generator
    )
    return hidden, wanted


def _error(hidden: Tensor, wanted: Tensor, keep: Tensor) -> float:
    """The least mean squared error, by numpy's own least squares."""
    rows = torch.cat([hidden[:, keep], torch.ones(len(hidden), 1)], dim=1).double().numpy()
    weights = np.linalg.lstsq(rows, wanted.double().numpy(), rcond=None)[0]
    return float(((rows @ weights - wanted.double().numpy()) ** 2).sum(1).mean())


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 1000))
def test_errors_are_those_of_least_squares_and_never_fall(channels: int, outputs: int, seed: int) -> None:
    hidden, wanted = _rows(200, channels, outputs, seed)
    found = eliminate(Moments.of(hidden, wanted))
    assert sorted(found.order) == list(range(channels)) and len(found.errors) == channels + 1
    assert all(b >= a - 1e-9 for a, b in zip(found.errors, found.errors[1:], strict=False))
    scale = found.errors[-1]
    for gone in {0, channels // 2, channels}:
        keep = torch.tensor(sorted(found.order[gone:]), dtype=torch.int64)
        assert found.errors[gone] == pytest.approx(_error(hidden, wanted, keep), abs=1e-3 * scale)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 24), st.integers(0, 1000))
def test_the_first_to_go_is_the_one_that_the_others_replace_best(channels: int, seed: int) -> None:
    hidden, wanted = _rows(200, channels, 3, seed)
    found = eliminate(Moments.of(hidden, wanted))
    each = [_error(hidden, wanted, torch.tensor([i for i in range(channels) if i != one])) for one in range(channels)]
    assert each[found.order[0]] <= min(each) + 1e-3 * found.errors[-1]


def test_moments_of_parts_are_those_of_the_whole() -> None:
    hidden, wanted = _rows(100, 6, 2, 0)
    parts = Moments.none() + Moments.of(hidden[:30], wanted[:30]) + Moments.of(hidden[30:], wanted[30:])
    keep = torch.tensor([0, 2, 5])
    for one, two in zip(refit(parts, keep), refit(Moments.of(hidden, wanted), keep), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_means_far_from_zero_cost_nothing() -> None:
    hidden, wanted = _rows(200, 12, 3, 1)
    near, far = eliminate(Moments.of(hidden, wanted)), eliminate(Moments.of(hidden + 3000, wanted - 3000))
    assert near.order == far.order
    assert far.errors == pytest.approx(near.errors, abs=1e-3 * near.errors[-1])


def test_refitted_weights_err_less_than_those_that_were() -> None:
    hidden, wanted = _rows(300, 12, 4, 3)
    weight, bias = refit(Moments.of(hidden, wanted), torch.arange(12))
    keep = torch.tensor(sorted(eliminate(Moments.of(hidden, wanted)).order[4:]))
    less, lost = refit(Moments.of(hidden, wanted), keep)
    gone = [i for i in range(12) if i not in keep]
    old = bias + weight[:, gone] @ hidden[:, gone].mean(0)  # what pruning without a fit does
    fitted = (hidden[:, keep] @ less.T + lost - wanted).square().sum(1).mean()
    plain = (hidden[:, keep] @ weight[:, keep].T + old - wanted).square().sum(1).mean()
    assert float(fitted) < float(plain)


def _double(tower: Any) -> list[int]:
    """Make the second half of each block's hidden channels say what the first half does; the number that is needed."""
    needed = []
    with torch.no_grad():
        for site in ffn_sites(tower):
            half = site.consumer.weight.shape[1] // 2
            needed.append(half)
            up = getattr(getattr(site.block, "mlp", site.block), "up", None)
            parts = [up] if up is not None else [site.block.expand.conv, site.block.depthwise.conv]  # type: ignore[union-attr]
            for part in parts:
                part.weight[half : 2 * half] = part.weight[:half]
                part.bias[half : 2 * half] = part.bias[:half]
    return needed


@pytest.mark.parametrize("kind", ["lite", "mci", "vit"])
def test_channels_that_say_what_others_say_cost_nothing(kind: str) -> None:
    tower = _image(kind)
    keep = _double(tower)
    small = reconstruct(tower, pictures(64), keep)
    assert [site.consumer.weight.shape[1] for site in ffn_sites(small)] == keep
    other = pictures(5, seed=8)
    with torch.inference_mode():
        expected = tower(other)
        error = float((small(other) - expected).abs().max() / expected.std())
    assert error < 0.001


@pytest.mark.parametrize("kind", IMAGES)
def test_a_reconstructed_block_is_nearer_than_a_cut_one(kind: str) -> None:
    """On what calibrates it, as many channels gone."""
    tower, images, number = _image(kind), pictures(8), 0
    keep = [site.consumer.weight.shape[1] for site in ffn_sites(tower)]
    keep[number] //= 2
    fitted = reconstruct(tower, images, keep)
    found = measure(tower, images, ffn_sites, "activation")
    rows = [list(range(k)) for k in keep]
    best = np.argsort(-found[number].score)[: keep[number]]
    rows[number] = sorted(int(i) for i in best)
    cut = cut_ffn(tower, rows, [m.mean for m in found])
    with torch.inference_mode():
        goal = block_outputs(tower, images)[number]
        errors = [float((block_outputs(one, images)[number] - goal).square().mean()) for one in (fitted, cut)]
    assert errors[0] <= errors[1] + 1e-5 * float(goal.var())


def test_later_blocks_make_good_what_earlier_ones_got_wrong() -> None:
    """The last block beside a skip answers nearer when it was fitted on what the pruned ones give."""
    tower, images = _image("lite"), pictures(24)
    keep = [site.consumer.weight.shape[1] // 2 for site in ffn_sites(tower)]
    whole = [site.consumer.weight.shape[1] for site in ffn_sites(tower)]
    after, apart = reconstruct(tower, images, keep), tower
    for number, size in enumerate(keep):
        alone = reconstruct(tower, images, [size if i == number else full for i, full in enumerate(whole)])
        site, own = ffn_sites(apart)[number], ffn_sites(alone)[number]
        rows = [list(range(s.consumer.weight.shape[1])) for s in ffn_sites(apart)]
        rows[number] = list(range(size))
        apart = cut_ffn(apart, rows, [torch.zeros(s.consumer.weight.shape[1]) for s in ffn_sites(apart)])
        ffn_sites(apart)[number].block.load_state_dict(own.block.state_dict())
        assert type(site.block) is type(own.block)
    with torch.inference_mode():
        goal = block_outputs(tower, images)[-2]
        near, far = (float(share(block_outputs(one, images)[-2], goal)) for one in (after, apart))
    assert near < far


def test_the_share_of_effort_goes_where_it_costs_least() -> None:
    tower, images = _image("lite"), pictures(8)
    small = reconstruct_image(tower, images, 0.25, multiple=8)
    assert effort(small, images[:1]) <= 0.75 * effort(tower, images[:1])
    assert all(site.consumer.weight.shape[1] % 8 == 0 for site in ffn_sites(small))
    rebuilt = build_image(small.config)
    rebuilt.load_state_dict(small.state_dict())
    assert DualEncoder(DualConfig(small.config, CLIP), image=small).config.image == small.config
    for wrong in (-0.1, 1.0, 0.99):
        with pytest.raises(ModelError, match="share"):
            reconstruct_image(tower, images, wrong)


def test_a_tower_keeps_a_share_of_its_channels() -> None:
    tower, images = _image("lite"), pictures(8)
    whole = sum(site.consumer.weight.shape[1] for site in ffn_sites(tower))
    kept = [
        sum(site.consumer.weight.shape[1] for site in ffn_sites(narrow_image(tower, images, share, multiple=8)))
        for share in (0.7, 0.4)
    ]
    assert 0.6 * whole < kept[0] <= 0.7 * whole and 0.3 * whole < kept[1] <= 0.4 * whole
    for wrong in (0.0, 0.01, 1.1):
        with pytest.raises(ModelError, match="share to keep"):
            narrow_image(tower, images, wrong)


def test_allocation_weighs_loss_by_effort() -> None:
    cheap, dear = [0.0, *(0.01 * i for i in range(1, 33))], [0.0, *(1.0 * i for i in range(1, 33))]
    assert allocate([Price(cheap, 1.0), Price(dear, 1.0)], 16, 8) == [16, 32]
    assert allocate([Price(cheap, 1.0), Price(dear, 1000.0)], 16, 8) == [32, 24]  # 8 of these are plenty
    assert allocate([Price(cheap, 1.0), Price(dear, 1.0)], 0, 8) == [32, 32]
    late = [0.0] * 9 + [100.0] * 24  # the first eight are free, then a wall
    assert allocate([Price(cheap, 1.0), Price(late, 1.0)], 16, 8) == [24, 24]
    by_number = allocate([Price(cheap, 2.0), Price(cheap, 1.0)], 16, 8, lambda price: 1.0)
    assert by_number == [16, 32], "as much is lost, and the first block's channels take twice the time"
    with pytest.raises(ModelError, match="share"):
        allocate([Price(cheap, 1.0)], 33, 8)


def test_a_survey_says_what_cutting_one_block_does() -> None:
    tower, images = _image("lite"), pictures(16)
    prices = survey(tower, images)
    assert [len(p.losses) - 1 for p in prices] == [site.consumer.weight.shape[1] for site in ffn_sites(tower)]
    assert all(p.losses[0] == 0 and p.losses[-1] > 0 and p.effort > 0 for p in prices)


def test_following_blocks_brings_them_nearer_and_leaves_the_text_tower_alone() -> None:
    tower, images = _image("vit"), pictures(12)
    found = measure(tower, images, ffn_sites, "activation")
    small = cut_ffn(tower, [list(range(0, len(m.score), 2)) for m in found], [m.mean for m in found])
    torch.manual_seed(0)
    student = DualEncoder(DualConfig(small.config, CLIP), image=small)
    none = torch.zeros(12, 1, dtype=torch.int64)
    batch = PairBatch(np.arange(12), np.arange(12), images, none, none)
    same = BlocksObjective(DualEncoder(DualConfig(tower.config, CLIP), image=tower), tower)
    assert float(same(batch).detach()) == 0.0
    objective = BlocksObjective(student, tower)
    trained = [p for p in student.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in student.image.parameters()}
    first, optimizer = float(objective(batch).detach()), torch.optim.Adam(trained, 1e-4)
    for _ in range(10):
        optimizer.zero_grad()
        objective(batch).backward()
        optimizer.step()
    assert 0 < float(objective(batch).detach()) < 0.9 * first
    assert not any(p.requires_grad for p in tower.parameters()) or all(p.grad is None for p in tower.parameters())


def test_a_block_is_refitted_alone() -> None:
    tower = _image("vit")
    hidden, wanted = _rows(50, 96, 48, 0)
    small = without(tower, 1, [5, 3, 9], Moments.of(hidden, wanted))
    assert [site.consumer.weight.shape[1] for site in ffn_sites(small)] == [96, 3, 96]
    assert torch.equal(small.layers[1].up.weight, tower.layers[1].up.weight[[3, 5, 9]])
