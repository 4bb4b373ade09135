"""Image towers merge exactly, leave no BatchNorm, and answer in engines as they do in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgekit.distill.clip.config import MciConfig, VitConfig
from edgekit.distill.clip.mci import mci_config
from edgekit.distill.clip.reparam import RepConv, reparameterize
from edgekit.distill.clip.towers import build_image
from edgekit.errors import ModelError
from tests.distill.clip.helpers import IMAGES, MCI, SIDE, answer, exported, lived, pictures

CONVOLUTIONAL = ["mci", "lite"]


def _size(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_merging_keeps_the_answers_and_leaves_no_batchnorm(kind: str) -> None:
    torch.manual_seed(0)
    tower = lived(build_image(IMAGES[kind]))
    merged = reparameterize(tower)
    with torch.inference_mode():
        before, after = tower(pictures(3)), merged(pictures(3))
    assert before.abs().max() > 0.05  # the statistics do something
    assert (before - after).abs().max() < 1e-5
    assert not any(isinstance(m, nn.BatchNorm2d) for m in merged.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in tower.modules())  # the original stays as it was
    assert _size(merged) < _size(tower)


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_a_merged_tower_is_rebuilt_from_its_config_and_merges_again_to_itself(kind: str) -> None:
    merged = reparameterize(lived(build_image(IMAGES[kind])))
    again = build_image(merged.config).eval()
    again.load_state_dict(merged.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(pictures(2)), merged(pictures(2)))
        twice = reparameterize(merged).state_dict()
    assert all(torch.equal(value, twice[name]) for name, value in merged.state_dict().items())


@pytest.mark.parametrize("kind", IMAGES)
def test_onnxruntime_answers_as_torch_at_any_batch(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    merged = reparameterize(lived(build_image(IMAGES[kind])))
    session = exported(merged, {"images": pictures(2)}, tmp_path / "image.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "image.onnx").graph.node}
    assert "BatchNormalization" not in operators
    for batch in (1, 2, 5):
        with torch.inference_mode():
            expected = merged(pictures(batch)).numpy()
        assert expected.shape == (batch, 24) and expected.dtype == np.float32
        np.testing.assert_allclose(answer(session, {"images": pictures(batch)}), expected, atol=2e-5)


@pytest.mark.parametrize("kind", IMAGES)
def test_torch_export_gives_the_same_answers(kind: str) -> None:
    merged = reparameterize(lived(build_image(IMAGES[kind])))
    program = torch.export.export(merged, (pictures(1),))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(pictures(1)), merged(pictures(1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", IMAGES)
def test_every_parameter_is_trained(kind: str) -> None:
    tower = build_image(IMAGES[kind]).train()
    (tower(pictures(2)) * torch.randn(2, 24)).sum().backward()
    assert not [name for name, p in tower.named_parameters() if p.grad is None]


def test_training_and_evaluation_compute_the_same_attention() -> None:
    """One road is torch's fused attention, the other plain operators for exporters."""
    tower = build_image(IMAGES["vit"])
    with torch.inference_mode():
        torch.testing.assert_close(tower.train()(pictures(2)), tower.eval()(pictures(2)), atol=1e-5, rtol=1e-4)


def test_sizes_are_those_that_they_claim() -> None:
    """mci0 has the 11.4 M parameters of MobileCLIP-S0's image encoder (Vasu et al. 2024, table 2)."""
    assert round(_size(build_image(mci_config("mci0"))), 1) == 11.4
    assert 5.5 < _size(build_image(mci_config("mci-small"))) <= 6.0
    assert 2.3 < _size(build_image(mci_config("mci-tiny"))) <= 2.6


def test_repconv_is_the_sum_that_its_definition_says() -> None:
    torch.manual_seed(0)
    layer = lived(RepConv(6, 6, (3, 3), kernels=((3, 3), (1, 1)), groups=6, skip=True, gelu=False))
    x = pictures(1, 8)[:, :1].repeat(1, 6, 1, 1)
    assert isinstance(layer, RepConv) and layer.branches is not None and layer.skip is not None
    with torch.inference_mode():
        big, small = (b.norm(b.conv(x)) for b in layer.branches)
        expected = big + small + layer.skip(x)
        assert torch.allclose(layer(x), expected, atol=1e-6)
        assert torch.allclose(reparameterize(layer)(x), expected, atol=1e-5)


def test_a_tower_takes_other_picture_sizes_where_it_can() -> None:
    tower = reparameterize(lived(build_image(MCI)))
    with torch.inference_mode():
        assert tower(pictures(1, 2 * SIDE)).shape == (1, 24)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: mci_config("mci9"), "mci9"),
        (lambda: MciConfig(widths=(8, 16)), "hidden"),
        (lambda: MciConfig(hidden=((1,), (), (1,), (1,))), "hidden"),
        (lambda: VitConfig(pooling="max"), "pooling"),
        (lambda: VitConfig(heads=(6,)), "heads"),
        (lambda: VitConfig(image_size=8), "image_size"),
        (lambda: VitConfig(projection=False), "embed_dim"),
        (lambda: VitConfig(activation="swish"), "activation"),
    ],
)
def test_an_impossible_shape_is_named(make: object, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        make()  # type: ignore[operator]
