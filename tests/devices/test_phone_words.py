"""The page's own reading of tokenizer.json and of pictures, run by node, beside the libraries of the runtime."""

from __future__ import annotations

import base64
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from edgekit.bundle.tensors import write_tensors
from edgekit.distill.clip_bpe import train_clip_bpe
from edgekit.runtimes.vision import ImagePreprocessor, ImageSpec
from tests.devices.page import run_page

TEXTS = [
    "a charming, funny film", "", "   ", "don't you'll he's I'VE", "Café naïve ÅNGSTRÖM", "ΣΑΣ ΟΔΟΣ", "İstanbul ǅ ﬁ",
    "12,345.67 ½ ² Ⅷ", "日本語 の text 漢字", "😀 smile 👨‍👩‍👧 🇩🇪", "tab\tnew\nline\r\nend\u00a0x\u3000y\u2028z",
    "zero\u200bwidth \ufeffbom soft\u00adhyphen", "\x00\x07\ufffd\x85", "[MASK] a [SEP]b [CLS]",
    "<|endoftext|> hi<|startoftext|>",
    "x" * 120, "ab" * 60 + " c", "e\u0301 e\u0302\u0323", "ＡＢＣ１２３",
    "–—‘’“”…", "a_b-c/d\\e|f~g`h^i$j+k=l<m>n", "𝔘𝔫𝔦 𐐀𐐨 𝟙",
]  # fmt: skip


CUT = """
import { tokenizerOf } from "./words.js";
const read = (i) => JSON.parse(fs.readFileSync(process.argv[i]));
const words = tokenizerOf(read(2));
console.log(JSON.stringify(words && read(3).map((text) => words.encode(text))));
"""


def everything() -> list[str]:
    """Texts with each character whose kind has been the same since Unicode 3.2: later ones, tables differ about."""
    every, kind = map(chr, range(sys.maxunicode)), unicodedata.ucd_3_2_0.category
    known = [one for one in every if kind(one) == unicodedata.category(one) and kind(one) not in ("Cn", "Cs", "Co")]
    rare = {one for one in known if "\u3400" <= one <= "\ud7a3" or ord(one) > 0x20000}  # alike, and most of all
    kept = [one for place, one in enumerate(known) if one not in rare or place % 97 == 0]
    return [f"a{one}b {one}'s {one}{one}" for one in kept]


def compare(folder: Path, tokenizer: Tokenizer, texts: list[str]) -> None:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    (folder / "texts.json").write_text(json.dumps(texts))
    found = run_page(folder, CUT, folder / "tokenizer.json", folder / "texts.json")
    expected = [one.ids for one in tokenizer.encode_batch(texts)]
    wrong = [text for text, mine, theirs in zip(texts, found, expected, strict=True) if mine != theirs]
    assert wrong == []


def test_word_pieces_are_those_of_tokenizers(minilm: Path, tmp_path: Path) -> None:
    compare(tmp_path, Tokenizer.from_file(str(minilm / "tokenizer.json")), TEXTS + everything())


@pytest.mark.slow
def test_clip_pieces_are_those_of_tokenizers(tmp_path: Path) -> None:
    learnt = train_clip_bpe([*TEXTS, "the quick brown fox jumps over the lazy dog, and the dog sleeps"] * 9, 1200)
    compare(tmp_path, learnt, TEXTS + everything())


def test_real_reviews(minilm: Path, shared_data: Path, tmp_path: Path) -> None:
    file = next(iter(sorted((shared_data / "text").rglob("*.tsv"))), None)
    if file is None:
        pytest.skip(f"no .tsv below {shared_data}/text")
    texts = file.read_text("utf-8", errors="replace").splitlines()[:2000]
    compare(tmp_path, Tokenizer.from_file(str(minilm / "tokenizer.json")), texts)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"model": {"type": "Unigram", "vocab": []}},
        {"post_processor": None},
        {"added_tokens": [{"id": 1, "content": "<mask>", "lstrip": True, "normalized": False}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_kind_is_left_to_the_host(minilm: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    file = json.loads((minilm / "tokenizer.json").read_text("utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**file, **change}))
    (tmp_path / "texts.json").write_text("[]")
    assert run_page(tmp_path, CUT, tmp_path / "tokenizer.json", tmp_path / "texts.json") is None


RESIZE = """
import { transform } from "./pictures.js";
const found = JSON.parse(fs.readFileSync(process.argv[2])).map(({ width, height, channels, pixels, spec }) => {
  const values = transform({ width, height, channels, data: Buffer.from(pixels, "base64") }, spec);
  return Buffer.from(values.buffer).toString("base64");
});
console.log(JSON.stringify(found));
"""
SPECS = [
    ImageSpec(),
    ImageSpec(size=32, edge=40),
    ImageSpec(size=48, resize="squash", interpolation="bilinear"),
    ImageSpec(size=64, interpolation="bilinear", mean=[0.5] * 3, std=[0.5] * 3),
]
SIZES = [(64, 48), (48, 64), (300, 41), (640, 480), (7, 9), (224, 224), (1, 1), (225, 223)]


def test_pictures_are_those_of_the_runtime(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases, expected = [], []
    for number, (width, height) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        if number % 2:  # smooth, as photographs are
            pixels = np.asarray(Image.fromarray(pixels[::8, ::8] if width > 8 else pixels).resize((width, height)))
        for spec in SPECS:
            four = np.concatenate([pixels, np.full((height, width, 1), 255, np.uint8)], axis=2)
            given = four if number % 3 == 0 else pixels  # a canvas gives four channels
            shape = {"width": width, "height": height, "channels": given.shape[2], "spec": spec.to_dict()}
            cases.append({**shape, "pixels": base64.b64encode(given.tobytes()).decode()})
            expected.append(ImagePreprocessor(spec)(pixels))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    found = run_page(tmp_path, RESIZE, tmp_path / "cases.json")
    for case, text, values in zip(cases, found, expected, strict=True):
        mine = np.frombuffer(base64.b64decode(text), np.float32).reshape(values.shape)
        assert np.abs(mine - values).max() <= 1e-5, {key: case[key] for key in ("width", "height", "spec")}


READ = """
import { readTensors } from "./safetensors.js";
const bytes = fs.readFileSync(process.argv[2]);
const found = readTensors(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const plain = Object.entries(found).map(([name, { shape, data }]) => [name, { shape, data: Array.from(data, Number) }]);
console.log(JSON.stringify(Object.fromEntries(plain)));
"""


def test_tensors_are_read(tmp_path: Path) -> None:
    tensors = {
        "outputs.a/b": np.array([[0.5, -2.25], [3, 1e-3]], np.float32),
        "ids": np.array([1, 2, 30000], np.int32),
        "picture.0": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        "none": np.zeros((0, 3), np.float32),
        "long": np.array([-(2**40)], np.int64),
    }
    (tmp_path / "x.safetensors").write_bytes(write_tensors(tensors))
    found = run_page(tmp_path, READ, tmp_path / "x.safetensors")
    assert set(found) == set(tensors)
    for name, array in tensors.items():
        assert found[name]["shape"] == list(array.shape)
        assert found[name]["data"] == pytest.approx(array.ravel().tolist())
