"""A text tower without the words that no caption uses: what captions use answers as before, all else can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import edgekit
from edgekit.data import PictureTextSet
from edgekit.data.pictures import ArrayPictures, PictureSplits
from edgekit.distill import families
from edgekit.distill import folder as folders
from edgekit.distill.clip.config import DualConfig, TextConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.folder import load, reader, save
from edgekit.distill.clip.text import BertTower
from edgekit.distill.clip_bpe import END, START, train_clip_bpe
from edgekit.distill.vocabulary import count_pieces, restrict
from edgekit.errors import ModelError, RecipeError
from edgekit.export import export_onnx
from edgekit.progress import Silent
from edgekit.recipe import Recipe
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.context import ClipTokenizer
from tests.clip_bundles import bundle
from tests.distill.clip.helpers import CLIP, MCT, VIT
from tests.export import duals

NOUNS = "cat dog house river mountain child street bicycle umbrella piano photograph lighthouse".split()
ALL = [
    f"a {size} {noun}'s picture, {count} of them: they're {verb} near the {other}!"
    for size in ("small", "large", "old")
    for noun in NOUNS
    for other in NOUNS
    for count, verb in ((2, "standing"), (17, "playing"))
]
DOMAIN = [f"a small {noun} near the {other}" for noun in NOUNS[:3] for other in NOUNS[:4]]
RAW: dict[str, Any] = {
    "task": "clip",
    "model": "unused",
    "data": {"train": "unused"},
    "max_length": 16,
    "stride": 0,
    "stages": {"vocabulary": {"enabled": True}},
}
TOWERS = {
    "plain": replace(CLIP, context_length=24),
    "named-end": replace(CLIP, context_length=24, causal=False, pad_id=0),
    "hybrid": replace(MCT, context_length=24),
    "bert": None,
}


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_clip_bpe(ALL, 900)


@pytest.fixture(scope="module")
def splits() -> PictureSplits[PictureTextSet]:
    pictures = ArrayPictures.of(np.zeros((len(DOMAIN), 8, 8, 3), np.uint8))
    train = PictureTextSet(pictures, DOMAIN, np.arange(len(DOMAIN)))
    held = replace(train.take([0, 1]), captions=[DOMAIN[3], "an old lighthouse"])
    return PictureSplits(train=train, validation=held, test=held, rules=[], fingerprint="")


def _source(name: str, folder: Path, bpe: Tokenizer, tiny_encoder: Path) -> Path:
    """A random dual encoder whose text tower is ``name``, with its tokenizer."""
    torch.manual_seed(0)
    config = TOWERS[name]
    if config is None:
        encoder, tokenizer = folders.load(tiny_encoder)
        tower = BertTower.of(encoder, 24)
        model = DualEncoder(DualConfig(VIT, tower.config), text=tower)
    else:
        tokenizer, size = bpe, bpe.get_vocab_size()
        eos = size - 1 if name == "named-end" else None
        text: TextConfig = replace(config, vocab_size=size, eos_id=eos)
        model = DualEncoder(DualConfig(VIT, text))
    model.logit_scale.data.fill_(1.5)
    save(model.eval(), tokenizer, folder)
    return folder


def _embeddings(folder: Path, texts: list[str]) -> np.ndarray:
    model, tokenizer = load(folder)
    ids, mask = (torch.from_numpy(array) for array in reader(tokenizer, model.config)(texts))
    with torch.inference_mode():
        return model.encode_texts(ids, mask).numpy()


@pytest.mark.parametrize("name", TOWERS)
def test_captions_of_kept_words_are_embedded_as_before(
    name: str, bpe: Tokenizer, splits: PictureSplits[PictureTextSet], tiny_encoder: Path, tmp_path: Path
) -> None:
    source = _source(name, tmp_path / "model", bpe, tiny_encoder)
    out = tmp_path / "small"
    report = families.vocabulary(Recipe.model_validate(RAW), splits, source, out, Silent())
    before, after = load(source)[0], load(out)[0]
    assert report["pieces_after"] == load(out)[1].get_vocab_size() < report["pieces_before"] - 50
    assert report["text_parameters_after"] == sum(p.numel() for p in after.text.parameters())
    assert report["text_parameters_after"] < report["text_parameters_before"]
    assert report["validation_texts_tokenized_as_before"] == 0.5
    assert (out / "model.safetensors").stat().st_size < (source / "model.safetensors").stat().st_size
    np.testing.assert_allclose(_embeddings(out, DOMAIN), _embeddings(source, DOMAIN), atol=1e-6)
    assert np.isfinite(_embeddings(out, ["an old lighthouse \u65e5 \U0001f600", ""])).all()
    assert after.logit_scale.item() == before.logit_scale.item()
    ours = after.image.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in before.image.state_dict().items())


def test_the_device_answers_as_before(
    bpe: Tokenizer, splits: PictureSplits[PictureTextSet], tiny_encoder: Path, tmp_path: Path
) -> None:
    source = _source("plain", tmp_path / "model", bpe, tiny_encoder)
    families.vocabulary(Recipe.model_validate(RAW), splits, source, tmp_path / "small", Silent())
    sizes = {}
    for name in ("model", "small"):
        export_onnx(tmp_path / name, tmp_path / f"{name}-onnx", ExportConfig(), duals.examples(2))
        path = bundle(tmp_path / f"{name}.edge", {"models/fp32.image.onnx": tmp_path / f"{name}-onnx"})
        model = edgekit.load(path)
        np.testing.assert_allclose(model.embed_texts(DOMAIN), _embeddings(source, DOMAIN), atol=1e-5)
        sizes[name] = (tmp_path / f"{name}-onnx/text/model.onnx").stat().st_size
    assert sizes["small"] < sizes["model"] - 4 * 48 * 50  # 50 rows of 48 numbers at the least


@pytest.fixture(scope="module")
def cut(bpe: Tokenizer) -> tuple[Tokenizer, list[int]]:
    return restrict(bpe, count_pieces(bpe, DOMAIN, Silent()))


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from([*NOUNS, "'s", "42", "\u00e9"])).map(" ".join)))
@example("")
@example("\u0378\u0001 \U0001f600 caf\u00e9")
def test_any_text_is_read_without_loss_and_ends_with_the_highest_id(
    bpe: Tokenizer, cut: tuple[Tokenizer, list[int]], text: str
) -> None:
    """Bytes stay, so nothing is unknown: what CLIP's tokenizer would give for it is the end token, amid the text."""
    small, keep = cut
    words, rows = bpe.encode(text, add_special_tokens=False), ClipTokenizer(small, 400)
    pieces = small.encode(text, add_special_tokens=False).tokens
    assert "".join(pieces) == "".join(words.tokens)
    ids = rows.ids(text)
    assert max(ids) == ids[-1] == rows.end_id == len(keep) - 1 and ids[0] == len(keep) - 2
    if set(words.ids) <= set(keep):
        assert [keep[i] for i in ids[1:-1]] == words.ids


def test_a_word_that_is_built_in_two_ways_keeps_both() -> None:
    made = json.loads(train_clip_bpe(["ab"], 514).to_str())
    vocabulary = [*list(made["model"]["vocab"])[:-2], "ab", "bc</w>", "abc</w>", START, END]
    ids = {token: number for number, token in enumerate(vocabulary)}
    made["model"]["vocab"] = ids
    made["model"]["merges"] = [["b", "c</w>"], ["a", "b"], ["a", "bc</w>"], ["ab", "c</w>"]]
    for token in made["added_tokens"]:
        token["id"] = ids[token["content"]]
    made["post_processor"] |= {"sep": [END, ids[END]], "cls": [START, ids[START]]}
    tokenizer = Tokenizer.from_str(json.dumps(made))
    small, _ = restrict(tokenizer, count_pieces(tokenizer, ["abc"], Silent()))
    assert small.encode("abc").tokens == tokenizer.encode("abc").tokens == [START, "abc</w>", END]


def test_words_of_prompts_stay_however_rare(
    bpe: Tokenizer, splits: PictureSplits[PictureTextSet], tiny_encoder: Path, tmp_path: Path
) -> None:
    source = _source("plain", tmp_path / "model", bpe, tiny_encoder)
    rare = {"vocabulary": {"enabled": True, "min_count": 1000}}
    prompts = {"labels": ["umbrella", "piano"], "templates": ["an old {}!"]}
    recipe = Recipe.model_validate({**RAW, "stages": rare, "prompts": prompts})
    families.vocabulary(recipe, splits, source, tmp_path / "small", Silent())
    small = load(tmp_path / "small")[1]
    assert small.encode("an old umbrella!").tokens == bpe.encode("an old umbrella!").tokens
    assert len(small.encode("bicycle").tokens) > len(bpe.encode("bicycle").tokens)
    texts = ["an old umbrella!", "an old piano!"]
    np.testing.assert_allclose(_embeddings(tmp_path / "small", texts), _embeddings(source, texts), atol=1e-6)


def test_what_cannot_be_cut_is_an_error(splits: PictureSplits[PictureTextSet], tmp_path: Path) -> None:
    words = duals.saved(tmp_path / "words", "vit", "clip")  # its tokenizer knows whole words alone
    with pytest.raises(ModelError, match="WordLevel"):
        families.vocabulary(Recipe.model_validate(RAW), splits, words, tmp_path / "out", Silent())
    alone = Recipe.model_validate({**RAW, "model": "new", "teacher": {"text": "none"}})
    with pytest.raises(RecipeError, match=r"stages\.vocabulary\.enabled"):
        families.left_out(alone)


def test_it_is_left_out_unless_it_is_asked_for() -> None:
    plain = Recipe.model_validate({**RAW, "stages": {}})
    assert not plain.enabled("vocabulary") and plain.stages.vocabulary.min_count == 1
    again = Recipe.model_validate(plain.model_dump(mode="json"))
    assert again == plain and families.left_out(again) == families.left_out(plain)
    assert Recipe.model_validate(RAW).enabled("vocabulary")
    assert Recipe.model_validate({**RAW, "task": "embed", "stages": {}}).enabled("vocabulary")
