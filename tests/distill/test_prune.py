"""Pruning really shrinks shapes, takes what matters least, and what it leaves reloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.data import TextSet
from edgekit.distill import folder as folders
from edgekit.distill.batches import tokenize
from edgekit.distill.encoder import Encoder
from edgekit.distill.importance import measure
from edgekit.distill.prune import choose, choose_layers, cut
from edgekit.distill.student import cut_layers, initial_layers, layer_map

TEXTS = ["a charming, funny film", "the plot is thin", "it runs for two hours", "no", "an honest miss"] * 4
IDS = torch.tensor([[101, 1037, 4569, 2143, 102], [101, 2053, 102, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def _data() -> TextSet:
    return TextSet(texts=TEXTS, labels=np.arange(len(TEXTS)) % 3)


def test_pruned_shapes_save_and_reload_through_from_pretrained(tiny_encoder: Path, tmp_path: Path) -> None:
    encoder, tokenizer = folders.load(tiny_encoder)
    small = cut(encoder, [[0, 2, 5], [1]], [list(range(64)), list(range(100, 132))]).eval()
    folders.save(small, tokenizer, tmp_path)
    again = Encoder.from_pretrained(tmp_path).eval()
    assert again.config.heads == [3, 1] and again.config.ffn == [64, 32]
    assert again.layers[0].attention.qkv.weight.shape == (3 * 3 * 32, 384)
    with torch.inference_mode():
        assert torch.equal(again(IDS, MASK), small(IDS, MASK))
    assert (tmp_path / "model.safetensors").stat().st_size < (tiny_encoder / "model.safetensors").stat().st_size


def test_cutting_what_is_masked_to_zero_changes_nothing(tiny_encoder: Path) -> None:
    """A head or neuron whose output is multiplied by zero is the same as one that is gone."""
    encoder, _ = folders.load(tiny_encoder)
    heads = [[h for h in range(12) if h != 3], list(range(12))]
    ffn = [list(range(32, 1536)), list(range(1536))]
    masked = torch.ones(2, 12)
    masked[:, 3] = 0
    neurons = torch.ones(2, 1536)
    neurons[:, :32] = 0
    with torch.inference_mode():
        encoder.layers[0].attention.head_mask, encoder.layers[0].ffn_mask = masked, neurons
        expected = encoder(IDS, MASK)
        encoder.layers[0].attention.head_mask = encoder.layers[0].ffn_mask = None
        assert torch.allclose(cut(encoder, heads, ffn).eval()(IDS, MASK), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["fisher", "gradient", "magnitude"])
def test_importance_finds_heads_and_neurons_that_do_nothing(tiny_encoder: Path, method: str) -> None:
    encoder, tokenizer = folders.load(tiny_encoder)
    with torch.no_grad():
        encoder.layers[0].attention.out.weight[:, 4 * 32 : 5 * 32] = 0
        encoder.layers[1].down.weight[:, 7] = 0
    tokens = tokenize(tokenizer, _data(), 64, 0)
    found = measure(encoder, tokens, method, 16, 0)
    assert int(found.heads[0].argmin()) == 4 and found.heads[0][4] == 0
    assert int(found.ffn[1].argmin()) == 7
    assert encoder.layers[0].attention.head_mask is None


def test_fisher_equals_the_mean_of_squared_gradients_text_by_text(tiny_encoder: Path) -> None:
    """One pass over a padded batch gives what one text at a time gives."""
    encoder, tokenizer = folders.load(tiny_encoder)
    whole = tokenize(tokenizer, _data().take(range(4)), 64, 0)
    together = measure(encoder, whole, "fisher", 4, 0)
    alone = [measure(encoder, tokenize(tokenizer, _data().take([i]), 64, 0), "fisher", 1, 0) for i in range(4)]
    for layer in range(2):
        expected = np.mean([a.heads[layer] for a in alone], axis=0)
        np.testing.assert_allclose(together.heads[layer], expected, rtol=1e-3, atol=1e-12)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=8, max_size=64), min_size=1, max_size=4),
    st.floats(0, 0.9),
    st.sampled_from([1, 4]),
)
def test_choose_keeps_the_most_important_and_never_nothing(
    scores: list[list[float]], share: float, multiple: int
) -> None:
    kept = choose([np.array(s) for s in scores], share, multiple)
    for layer, keep in zip(scores, kept, strict=True):
        assert min(multiple, len(layer)) <= len(keep) <= len(layer) and keep == sorted(set(keep))
        gone = [layer[i] for i in range(len(layer)) if i not in keep]
        assert not gone or min(layer[i] for i in keep) >= max(gone)


def test_the_layer_that_does_nothing_goes_first(tiny_encoder: Path) -> None:
    encoder, tokenizer = folders.load(tiny_encoder)
    three = cut_layers(encoder, [0, 1, 1])
    with torch.no_grad():
        layer = three.layers[1]
        for weight in (layer.attention.out, layer.down):
            weight.weight.zero_()
            weight.bias.zero_()
        layer.attention_norm.load_state_dict(encoder.layers[0].ffn_norm.state_dict())
        layer.ffn_norm.load_state_dict(encoder.layers[0].ffn_norm.state_dict())
    assert choose_layers(three.eval(), tokenize(tokenizer, _data(), 64, 0), 1, 0) == [0, 2]


def test_spread_takes_the_layers_that_distilbert_took() -> None:
    assert initial_layers(6, 12, "spread") == [0, 2, 4, 7, 9, 11]
    assert initial_layers(2, 6, "first") == [0, 1] and initial_layers(2, 6, "last") == [4, 5]
    assert layer_map(4, 12) == [3, 6, 9, 12]
