"""Engines with files of one input: pictures, or token ids without a mask."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EngineError
from edgekit.runtimes import engines
from tests.needs import needs
from tests.runtimes.duals import DIM, SIZE, TURN, engine, image_tower, table, text_tower, to_openvino, tokenizer

BOTH = ("input_ids", "attention_mask")
ENGINES = ["onnxruntime", "openvino"]


def pixels(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 3, SIZE, SIZE)).astype(np.float32)


def tokens(rows: int, length: int = 77) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(rows).integers(0, 500, (rows, length), dtype=np.int64)
    return ids, (np.arange(length)[None] < np.arange(3, 3 + rows)[:, None]).astype(np.int64)


@pytest.fixture(scope="module")
def rows_of_words() -> np.ndarray:
    return table(tokenizer())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, rows_of_words: np.ndarray) -> dict[tuple[str, str], Path]:
    """By engine and tower: "image", "ids" and "both"."""
    folder = tmp_path_factory.mktemp("towers")
    made = {
        "image": image_tower(folder / "image.onnx"),
        "ids": text_tower(folder / "ids.onnx", rows_of_words, with_mask=False),
        "both": text_tower(folder / "both.onnx", rows_of_words, with_mask=True),
    }
    found = {("onnxruntime", name): path for name, path in made.items()}
    if find_spec("openvino") is not None:
        found |= {("openvino", name): to_openvino(path) for name, path in made.items()}
    return found


def loaded(files: dict[tuple[str, str], Path], name: str, tower: str) -> engines.Engine:
    if (name, tower) not in files:
        pytest.skip(f"needs the package {name}: pip install edgekit[{name}]")
    inputs = {"image": ("pixel_values",), "ids": ("input_ids",), "both": BOTH}[tower]
    return engine(files[name, tower], name, *inputs)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_pictures(files: dict[tuple[str, str], Path], name: str, rows: int) -> None:
    found = loaded(files, name, "image")
    assert (found.inputs, found.output_width, found.batching) == (("pixel_values",), DIM, True)
    answer = found.run_one(pixels(rows))
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, pixels(rows).mean((2, 3)) @ TURN, atol=1e-5)
    np.testing.assert_allclose(found.run_one(np.asfortranarray(pixels(rows))), answer, atol=1e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_texts_with_and_without_a_mask(
    files: dict[tuple[str, str], Path], rows_of_words: np.ndarray, name: str
) -> None:
    ids, mask = tokens(3)
    alone = loaded(files, name, "ids").run_one(ids)
    np.testing.assert_allclose(alone, rows_of_words[ids].sum(1), atol=1e-4)
    masked = loaded(files, name, "both").run(ids, mask)
    np.testing.assert_allclose(masked, (rows_of_words[ids] * mask[:, :, None]).sum(1), atol=1e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_the_wrong_call_is_an_error_and_never_an_answer(files: dict[tuple[str, str], Path], name: str) -> None:
    ids, mask = tokens(2)
    one, two, image = (loaded(files, name, tower) for tower in ("ids", "both", "image"))
    two.run(ids, mask)  # leaves a mask behind that must not be used
    with pytest.raises(EngineError):
        two.run_one(ids)
    with pytest.raises(EngineError):
        one.run(ids, mask)
    for wrong in (pixels(1)[:, :2], pixels(1)[0], pixels(1)[:, :, :5]):
        with pytest.raises(EngineError, match=r"shape \(.*, .*\)"):
            image.run_one(wrong)
    np.testing.assert_allclose(image.run_one(pixels(1)), pixels(1).mean((2, 3)) @ TURN, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_inputs_that_the_file_does_not_have(files: dict[tuple[str, str], Path], name: str) -> None:
    path = files.get((name, "image")) or pytest.skip(f"needs the package {name}")
    for wrong in (("pixels",), BOTH):
        with pytest.raises(EngineError, match=r"inputs of image\.\w+; found \['pixel_values'\]; expected"):
            engines.create(name, path, 1, wrong, "image_embeddings")
    with pytest.raises(EngineError, match="inputs of image"):
        engines.create(name, path, 1, (), "image_embeddings")
    with pytest.raises(EngineError, match=r"outputs of image\.\w+; .*expected logits"):
        engines.create(name, path, 1, ("pixel_values",), "logits")


@pytest.mark.parametrize("name", ENGINES)
def test_threads_get_their_own_answers(files: dict[tuple[str, str], Path], name: str) -> None:
    found = loaded(files, name, "image")
    cases = [pixels(1 + seed % 3, seed) for seed in range(24)]
    expected = [found.run_one(case) for case in cases]
    with ThreadPoolExecutor(6) as pool:
        for answer, right in zip(pool.map(found.run_one, cases), expected, strict=True):
            np.testing.assert_array_equal(answer, right)


LITERT = """
import sys
import numpy as np
import torch
import litert_torch

class Image(torch.nn.Module):
    def __init__(self, turn):
        super().__init__()
        self.turn = torch.nn.Parameter(turn)
    def forward(self, pixel_values):
        return {"image_embeddings": pixel_values.mean((2, 3)) @ self.turn}

class Text(torch.nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Embedding.from_pretrained(rows)
    def forward(self, input_ids):
        return {"text_embeddings": self.rows(input_ids.long()).sum(1)}

turn, rows = (torch.from_numpy(np.load(path)) for path in sys.argv[1:3])
pixels = torch.zeros(1, 3, int(sys.argv[3]), int(sys.argv[3]))
litert_torch.convert(Image(turn).eval(), sample_kwargs={"pixel_values": pixels}).export(sys.argv[4])
ids = torch.zeros(1, 77, dtype=torch.int32)
litert_torch.convert(Text(rows).eval(), sample_kwargs={"input_ids": ids}).export(sys.argv[5])
named = litert_torch.signature("tokens_8", Text(rows).eval(), sample_kwargs={"input_ids": ids[:, :8]})
named.signature("tokens_16", Text(rows).eval(), sample_kwargs={"input_ids": ids[:, :16]}).convert().export(sys.argv[6])
"""


@pytest.mark.slow
def test_litert(tmp_path: Path, rows_of_words: np.ndarray) -> None:
    needs("litert_torch", "ai_edge_litert")
    np.save(tmp_path / "turn.npy", TURN)
    np.save(tmp_path / "rows.npy", rows_of_words)
    given = [tmp_path / "turn.npy", tmp_path / "rows.npy", SIZE, tmp_path / "image.tflite", tmp_path / "text.tflite"]
    given.append(tmp_path / "lengths.tflite")
    done = subprocess.run([sys.executable, "-c", LITERT, *map(str, given)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    image = engine(tmp_path / "image.tflite", "litert", "pixel_values")
    assert (image.output_width, image.batching) == (DIM, False)
    for rows in (1, 3):
        np.testing.assert_allclose(image.run_one(pixels(rows)), pixels(rows).mean((2, 3)) @ TURN, atol=1e-5)
    text = engine(tmp_path / "text.tflite", "litert", "input_ids")
    ids, mask = tokens(3)
    np.testing.assert_allclose(text.run_one(ids), rows_of_words[ids].sum(1), atol=1e-4)

    lengths = engine(tmp_path / "lengths.tflite", "litert", "input_ids")
    for count in (8, 5, 16, 11, 8):  # what is short ends with zeros, whose row is nearly nothing
        padded = np.pad(ids[:, :count], ((0, 0), (0, (8 if count <= 8 else 16) - count)))
        np.testing.assert_allclose(lengths.run_one(ids[:, :count]), rows_of_words[padded].sum(1), atol=1e-4)
    with pytest.raises(EngineError, match="found 17; expected at most 16"):
        lengths.run_one(ids[:, :17])
    with pytest.raises(EngineError, match="expected token ids and mask"):
        lengths.run(ids[:, :8], mask[:, :8])

    with pytest.raises(EngineError, match=r"shape \(1, 76\); expected \(B, 77\)"):
        text.run_one(ids[:1, :76])
    with pytest.raises(EngineError, match="shape"):
        image.run_one(pixels(0))
    with pytest.raises(EngineError, match="expected token ids and mask"):
        text.run(ids, mask)
    with pytest.raises(EngineError, match=r"inputs of image\.tflite; found \['pixel_values'\]; expected \['pixels'\]"):
        engine(tmp_path / "image.tflite", "litert", "pixels")
    with pytest.raises(EngineError, match=r"outputs of image\.tflite"):
        engines.create("litert", tmp_path / "image.tflite", 1, ("pixel_values",), "logits")
    cases = [pixels(1, seed) for seed in range(12)]
    expected = [image.run_one(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for answer, right in zip(pool.map(image.run_one, cases), expected, strict=True):
            np.testing.assert_array_equal(answer, right)
