"""A dual encoder that knows colours, as ONNX and OpenVINO files: small, and right for a reason that can be checked.

A picture's embedding is its mean colour, a text's the sum of its colour words, both turned into ``DIM`` numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from edgekit.bundle import TaskSpec
from edgekit.distill.clip_bpe import train_clip_bpe
from edgekit.runtimes import engines
from edgekit.runtimes.context import ClipTextPipeline, ClipTokenizer
from edgekit.runtimes.dual import DualModel, DualSpec
from edgekit.runtimes.engines.openvino import import_openvino
from edgekit.runtimes.vision import CLIP_MEAN, CLIP_STD, ImagePreprocessor, ImageSpec
from edgekit.runtimes.vision.pipeline import ImagePipeline

DIM, SIZE = 8, 16
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
WORDS = [f"a photo of a {name} thing. what colour is it? it is {name}" for name in COLOURS]
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, 3)))[0].T.astype(
    np.float32
)  # (3, DIM), orthonormal rows


def vector(rgb: tuple[int, int, int]) -> np.ndarray:
    """What the image tower gives for a picture of one colour, before it is normalised: float32 (DIM,)."""
    values = (np.array(rgb) / 255 - CLIP_MEAN) / CLIP_STD
    return values.astype(np.float32) @ TURN


def picture(rgb: tuple[int, int, int], width: int = 20, height: int = 14) -> np.ndarray:
    """uint8 (height, width, 3) of one colour."""
    return np.full((height, width, 3), rgb, np.uint8)


def tokenizer() -> Tokenizer:
    return train_clip_bpe(WORDS * 20, 700)


def table(ids_of: Tokenizer) -> np.ndarray:
    """float32 (V, DIM): the colours' vectors, and next to nothing for all other tokens."""
    rows = np.random.default_rng(1).normal(0, 1e-4, (ids_of.get_vocab_size(), DIM)).astype(np.float32)
    for name, rgb in COLOURS.items():
        (token,) = ids_of.encode(name, add_special_tokens=False).ids
        rows[token] = vector(rgb)
    return rows


def image_tower(path: Path) -> Path:
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "turn"], ["image_embeddings"]),
    ]
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["b", 3, SIZE, SIZE])
    return _save(path, nodes, [pixels], "image_embeddings", {"turn": TURN})


def text_tower(path: Path, rows: np.ndarray, with_mask: bool) -> Path:
    weights = {"table": rows, "axis": np.array([1], np.int64), "last": np.array([2], np.int64)}
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "t"])]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["found"])]
    if with_mask:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["b", "t"]))
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["real", "last"], ["wide"]),
            helper.make_node("Mul", ["found", "wide"], ["kept"]),
        ]
    nodes.append(
        helper.make_node("ReduceSum", ["kept" if with_mask else "found", "axis"], ["text_embeddings"], keepdims=0)
    )
    return _save(path, nodes, inputs, "text_embeddings", weights)


def to_openvino(path: Path) -> Path:
    openvino = import_openvino()
    openvino.save_model(openvino.convert_model(str(path)), str(path.with_suffix(".xml")), compress_to_fp16=False)
    return path.with_suffix(".xml")


def engine(path: Path, name: str, *inputs: str) -> engines.Engine:
    return engines.create(
        name, path, 1, inputs, "image_embeddings" if inputs == ("pixel_values",) else "text_embeddings"
    )


def model(folder: Path, name: str = "onnxruntime", with_mask: bool = True, spec: DualSpec | None = None) -> DualModel:
    """The dual encoder in engine ``name``, its files in ``folder``."""
    words = tokenizer()
    image, text = image_tower(folder / "image.onnx"), text_tower(folder / "text.onnx", table(words), with_mask)
    if name == "openvino":
        image, text = to_openvino(image), to_openvino(text)
    inputs = ("input_ids", "attention_mask") if with_mask else ("input_ids",)
    return DualModel(
        ImagePipeline.of_engine(ImagePreprocessor(ImageSpec(SIZE)), engine(image, name, "pixel_values")),
        ClipTextPipeline.of_engine(ClipTokenizer(words), engine(text, name, *inputs)),
        TaskSpec("clip", [], 77, 0, pictures=ImageSpec(SIZE), similarity=spec or DualSpec(logit_scale=10.0)),
        digest="f" * 64,
    )


def _save(path: Path, nodes: list, inputs: list, output: str, weights: dict[str, np.ndarray]) -> Path:
    found = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", DIM])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tower", inputs, [found], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    onnx.save(made, str(path))
    return path
