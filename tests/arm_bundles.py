"""Model files for ARM boards, as the pipeline makes them: a small text model for two engines, fp32 and INT8."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from edgekit.bundle import Manifest, ModelFile, write
from edgekit.runtimes import artifact
from edgekit.runtimes.golden import make

TEXTS = [
    "a charming, funny film that never quite takes off",
    "dull",
    "",
    "naïve 日本語 it's $9.99",
    "the plot is thin, the jokes fall flat, and still nobody in the room looked at a watch for two hours",
]
CALIBRATION = ["a moving portrait", "how do I cancel my card", "it runs for two hours", "no", *TEXTS[:2]]


def export(tiny_encoder: Path, tiny_litert: Path, work: Path) -> dict[str, Path]:
    """Artifact folders by path in the bundle: ONNX and TFLite, fp32 and INT8, as the pipeline makes them."""
    from edgekit.export import export_onnx
    from edgekit.quantize.backend import Source, open_backend
    from edgekit.recipe.stages import ExportConfig
    from edgekit.runtimes.preprocess import TextPreprocessor

    found = {"models/fp32.onnx": work / "onnx", "models/fp32.tflite": tiny_litert}
    export_onnx(tiny_encoder, work / "onnx", ExportConfig(), CALIBRATION)
    spec = artifact.read_spec(work / "onnx")
    batches = TextPreprocessor(tiny_encoder / "tokenizer.json", spec)
    feeds = [{"input_ids": one[0], "attention_mask": one[1]} for text in CALIBRATION if (one := batches.single(text))]
    for path, engine, candidate in (
        ("models/w8a8.onnx", "onnxruntime", "static"),
        ("models/w8a8.tflite", "litert", "dynamic"),
    ):
        fp32 = found[path.replace("w8a8", "fp32")]
        backend = open_backend(engine, Source(fp32, tiny_encoder, feeds, embeddings_int8=True, seed=0))
        _, quantizer = next(backend.variants(candidate))
        found[path] = work / path.replace("/", "-")
        found[path].mkdir()
        backend.write(quantizer(), found[path])
        shutil.copyfile(fp32 / "tokenizer.json", found[path] / "tokenizer.json")
        artifact.write(found[path], spec, engine, "w8a8")
    return found


def write_bundle(tiny_encoder: Path, tiny_litert: Path, work: Path, name: str, broken: bool = False) -> Path:
    """The bundle ``work/NAME.edge`` of all of them; ``broken``: and of an ONNX file that is none."""
    folders = export(tiny_encoder, tiny_litert, work)
    golden = make({path: artifact.load(folder, 1, path) for path, folder in folders.items()}, TEXTS)
    about = {path: artifact.read(folder) for path, folder in folders.items()}
    models = [
        ModelFile(path, found.engine, found.precision, output="" if found.engine == "litert" else "logits")
        for path, found in about.items()
    ]
    manifest = Manifest(
        name=name,
        created="2026-01-02T03:04:05+00:00",
        edgekit_version="0.1.0",
        task=artifact.read_spec(work / "onnx"),
        models=models,
        golden=golden["manifest"],
    )
    files: dict[str, Path | bytes] = {path: folder / about[path].files[0] for path, folder in folders.items()}
    files["tokenizer.json"] = tiny_encoder / "tokenizer.json"
    if broken:
        manifest = replace(manifest, models=[*models, ModelFile("models/broken.onnx", "onnxruntime", "fp32")])
        files["models/broken.onnx"] = b"no model at all"
    write(work / f"{name}.edge", manifest, files | golden["files"])
    return work / f"{name}.edge"
