"""Small real bundles of task clip: random towers of edgekit's own, in ONNX and OpenVINO, with golden vectors."""

from __future__ import annotations

import shutil
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch

from edgekit.bundle import Manifest, ModelFile, TaskSpec, write
from edgekit.bundle.dual import DualSpec, ImageSpec
from edgekit.distill.clip.config import DualConfig, TextConfig, VitConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip_bpe import train_clip_bpe
from edgekit.runtimes import artifact
from edgekit.runtimes.engines.openvino import import_openvino
from edgekit.runtimes.golden import make
from edgekit.runtimes.prompts import NAME, make_bank

SIZE, DIM, CONTEXT = 32, 24, 16
LABELS = ["a red square", "a blue circle", "a green triangle"]
TEXTS = [*LABELS, "a small yellow star above a large grey square", "stripes", "a white dot on black " * 6]


def pictures(count: int = len(TEXTS)) -> list[np.ndarray]:
    """uint8 (H, W, 3) of several shapes, smooth, always the same."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4 + i % 3, 5, 3), np.uint8).repeat(9, 0).repeat(8, 1) for i in range(count)]


EXAMPLES = list(zip(pictures(), TEXTS, strict=True))


def encoder() -> tuple[DualEncoder, TaskSpec, str]:
    """The towers, their task and tokenizer.json."""
    words = train_clip_bpe(TEXTS * 9, 600)
    torch.manual_seed(0)
    image = VitConfig(DIM, SIZE, 8, 32, 16, (2, 2), (64, 64), pool_heads=2, pool_ffn=64)
    text = TextConfig(DIM, CONTEXT, words.get_vocab_size(), 32, 16, (2, 2), (64, 64))
    spec = TaskSpec(
        "clip", [], CONTEXT, 0, pad_id=0, normalize=True,
        pictures=ImageSpec(SIZE), similarity=DualSpec(20.0),
    )  # fmt: skip
    return DualEncoder(DualConfig(image, text)).eval(), spec, words.to_str()


@cache
def onnx_artifact(root: Path) -> Path:
    """An artifact for onnxruntime in ``root``/onnx, fp32."""
    folder = root / "onnx"
    model, spec, words = encoder()
    pixels, ids = torch.zeros(2, 3, SIZE, SIZE), torch.ones(2, 7, dtype=torch.int64)
    for name, tower, example, given, axes in (
        ("image", model.image, pixels, "pixel_values", {0: "b"}),
        ("text", model.text, ids, "input_ids", {0: "b", 1: "t"}),
    ):
        (folder / name).mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                tower, (example,), str(folder / name / "model.onnx"), input_names=[given],
                output_names=[f"{name}_embeddings"], dynamic_axes={given: axes, f"{name}_embeddings": {0: "b"}},
                opset_version=17, dynamo=False,
            )  # fmt: skip
    (folder / "tokenizer.json").write_text(words, "utf-8")
    artifact.write(folder, spec, "onnxruntime", "fp32", towers())
    return folder


def openvino_artifact(root: Path) -> Path:
    """The same for openvino in ``root``/openvino."""
    onnx, folder = onnx_artifact(root), root / "openvino"
    openvino = import_openvino()
    for name in ("image", "text"):
        (folder / name).mkdir(parents=True)
        made = openvino.convert_model(str(onnx / name / "model.onnx"))
        openvino.save_model(made, str(folder / name / "model.xml"), compress_to_fp16=False)
    shutil.copyfile(onnx / "tokenizer.json", folder / "tokenizer.json")
    artifact.write(folder, artifact.read_spec(onnx), "openvino", "fp32", towers())
    return folder


def towers() -> dict[str, dict[str, object]]:
    return {
        "image": {"precision": "fp32", "inputs": ["pixel_values"], "output": "image_embeddings"},
        "text": {"precision": "fp32", "inputs": ["input_ids"], "output": "text_embeddings"},
    }


def without_text(folder: Path, out: Path) -> Path:
    """A copy of an artifact with a prompt bank of ``LABELS`` in place of its text tower."""
    model = artifact.load(folder, 1)
    out.mkdir()
    shutil.copytree(folder / "image", out / "image")
    about = artifact.read(folder)
    artifact.write(out, model.spec, about.engine, about.precision, {"image": about.towers["image"]})
    make_bank(LABELS, ["a photo of {}."], model.embed_texts).save(out / NAME)
    return out


def bundle(path: Path, folders: dict[str, Path]) -> Path:
    """Write ``path`` of the artifacts in ``folders``, by the image tower's file in the bundle."""
    files: dict[str, Path | bytes] = {}
    models: list[ModelFile] = []
    for file, folder in folders.items():
        files |= artifact.sources(folder, file)
        models.append(artifact.entry(folder, file))
        for name in ("tokenizer.json", NAME):
            if (folder / name).is_file():
                files[name] = folder / name
    golden = make({file: artifact.load(folder, 1, file) for file, folder in folders.items()}, EXAMPLES)
    manifest = Manifest(
        name="clip", created="2026-01-02T03:04:05+00:00", edgekit_version="0.1.0",
        task=artifact.read_spec(next(iter(folders.values()))), models=models, golden=golden["manifest"],
    )  # fmt: skip
    write(path, manifest, files | golden["files"])
    return path
