"""Small real bundles of task clip: random towers of edgekit's own, in ONNX and OpenVINO, with golden vectors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit.bundle import Manifest, ModelFile, write
from edgekit.bundle.records import RungRecord
from edgekit.distill.clip.config import DualConfig, TextConfig, VitConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.reconstruct import narrow_image
from edgekit.distill.clip_bpe import train_clip_bpe
from edgekit.export import export_onnx
from edgekit.export.openvino import export_openvino
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.golden import make
from edgekit.runtimes.prompts import NAME, make_bank

SIZE, DIM, CONTEXT = 32, 24, 16
ONNX, XML = "models/fp32.image.onnx", "models/fp32.image.xml"
LABELS = ["a red square", "a blue circle", "a green triangle"]
TEXTS = [*LABELS, "a small yellow star above a large grey square", "stripes", "a white dot on black " * 6]


def pictures(count: int = len(TEXTS)) -> list[np.ndarray]:
    """uint8 (H, W, 3) of several shapes, smooth, always the same."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4 + i % 3, 5, 3), np.uint8).repeat(9, 0).repeat(8, 1) for i in range(count)]


EXAMPLES = list(zip(pictures(), TEXTS, strict=True))


def encoder() -> tuple[DualEncoder, str]:
    """The towers and tokenizer.json; always the same."""
    words = train_clip_bpe(TEXTS * 9, 600)
    torch.manual_seed(0)
    image = VitConfig(DIM, SIZE, 8, 32, 16, (2, 2), (64, 64), pool_heads=2, pool_ffn=64)
    text = TextConfig(DIM, CONTEXT, words.get_vocab_size(), 32, 16, (2, 2), (64, 64))
    return DualEncoder(DualConfig(image, text)).eval(), words.to_str()


def torch_folder(root: Path) -> Path:
    """The towers as edgekit's own torch folder, ``root``/torch."""
    model, words = encoder()
    model.save(root / "torch")
    (root / "torch/tokenizer.json").write_text(words, "utf-8")
    return root / "torch"


def onnx_artifact(root: Path) -> Path:
    """An artifact for onnxruntime in ``root``/onnx, fp32, made of ``root``/torch."""
    export_onnx(torch_folder(root), root / "onnx", ExportConfig(), EXAMPLES[:2])
    return root / "onnx"


def openvino_artifact(root: Path, onnx: Path) -> Path:
    """The same for openvino in ``root``, made of the artifact ``onnx`` and the torch folder beside it."""
    export_openvino(onnx.parent / "torch", onnx, root, ExportConfig(), EXAMPLES[:2])
    return root


def narrower(torch_folder: Path, out: Path, kept: float) -> Path:
    """An artifact for onnxruntime in ``out``, fp32: the model in ``torch_folder`` with fewer hidden channels."""
    model = DualEncoder.load(torch_folder)
    side = model.config.image.image_size
    probe = torch.randn(16, 3, side, side, generator=torch.Generator().manual_seed(0))
    small = DualEncoder(model.config, narrow_image(model.image, probe, kept), model.text)
    small.load_state_dict({k: v for k, v in model.state_dict().items() if "logit" in k}, strict=False)
    small.save(out / "torch")
    shutil.copyfile(torch_folder / "tokenizer.json", out / "torch/tokenizer.json")
    export_onnx(out / "torch", out / "onnx", ExportConfig(), EXAMPLES[:2])
    return out / "onnx"


def ladder(path: Path, first: Path, lower: dict[str, Path]) -> Path:
    """Write ``path``: the artifact ``first`` and those of ``lower``, by percent of channels, as rungs below it."""
    files = {ONNX: first, **{f"models/{name}/fp32.image.onnx": folder for name, folder in lower.items()}}
    like = {file: "" if file == ONNX else ONNX for file in files}
    entries = {file: artifact.entry(folder, file, like=like[file]) for file, folder in files.items()}
    told = {"metric": "recall_at_1", "value": 0.5, "low": 0.4, "high": 0.6, "n": 100, "agreement": 0.9}
    rungs = [
        RungRecord(name, size_bytes=1000, p50_ms=int(name) / 10, channels=int(name), models=models, **told)
        for name, models in zip(["100", *lower], [[], *([one] for one in list(entries.values())[1:])], strict=True)
    ]
    golden = make({file: artifact.load(folder, 1, file, like[file]) for file, folder in files.items()}, EXAMPLES)
    manifest = Manifest(
        name="clip", created="2026-01-02T03:04:05+00:00", edgekit_version="0.1.0", task=artifact.read_spec(first),
        models=[entries[ONNX]], ladder=rungs, golden=golden["manifest"],
    )  # fmt: skip
    packed = {**artifact.shared(first), **golden["files"]}
    for file, folder in files.items():
        packed |= artifact.sources(folder, file, like[file])
    write(path, manifest, packed)
    return path


def without_text(folder: Path, out: Path) -> Path:
    """A copy of an artifact with a prompt bank of ``LABELS`` in place of its text tower."""
    model = artifact.load(folder, 1)
    out.mkdir()
    shutil.copytree(folder / "image", out / "image")
    about = artifact.read(folder)
    artifact.write(out, model.spec, about.engine, about.precision, {"image": about.towers["image"]})
    make_bank(LABELS, ["a photo of {}."], model.embed_texts).save(out / NAME)
    return out


def bundle(path: Path, folders: dict[str, Path], **fields: Any) -> Path:
    """Write ``path`` of the artifacts in ``folders``, by the image tower's file in the bundle.

    ``fields``: further ones of the manifest.
    """
    files: dict[str, Path | bytes] = {}
    models: list[ModelFile] = []
    for file, folder in folders.items():
        files |= artifact.sources(folder, file)
        models.append(artifact.entry(folder, file))
        files |= artifact.shared(folder)
    golden = make({file: artifact.load(folder, 1, file) for file, folder in folders.items()}, EXAMPLES)
    manifest = Manifest(
        name="clip", created="2026-01-02T03:04:05+00:00", edgekit_version="0.1.0",
        task=artifact.read_spec(next(iter(folders.values()))), models=models, golden=golden["manifest"], **fields,
    )  # fmt: skip
    write(path, manifest, files | golden["files"])
    return path
