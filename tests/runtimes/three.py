"""A bundle with a file for each of several engines, all of one model: two layers of MiniLM, three classes, fp32."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.bundle import Manifest, ModelFile, write
from edgekit.export import export_onnx
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.engines.openvino import import_openvino
from edgekit.runtimes.golden import make
from tests.needs import needs
from tests.sharing import once

FILES = {"onnxruntime": "models/fp32.onnx", "openvino": "models/fp32.xml", "litert": "models/fp32.tflite"}
TEXTS = ["a charming, funny film that never quite takes off", "dull", "it runs for two hours and I would not miss one"]


def make_bundle(encoder: Path, work: Path, litert: Path | None = None) -> Path:
    """``work``/small.edge for onnxruntime, openvino and, with the artifact ``litert``, litert, in this order.

    ``encoder``: edgekit's own torch folder, which ``litert`` was made of.
    """
    folders = {"onnxruntime": work / "onnxruntime", "openvino": work / "openvino"}
    onnx = folders["onnxruntime"]
    export_onnx(encoder, onnx, ExportConfig(), TEXTS[:1])
    _to_openvino(onnx, folders["openvino"])
    if litert is not None:
        folders["litert"] = litert
    golden = make({FILES[name]: artifact.load(folder, 1, FILES[name]) for name, folder in folders.items()}, TEXTS)
    files: dict[str, Path | bytes] = {FILES[name]: folder / artifact.FILES[name][0] for name, folder in folders.items()}
    files["models/fp32.bin"] = folders["openvino"] / "model.bin"
    parts = {"openvino": ["models/fp32.bin"]}
    manifest = Manifest(
        name="small",
        created="2025-01-01T00:00:00Z",
        edgekit_version="0.1.0",
        task=artifact.read_spec(onnx),
        models=[ModelFile(FILES[name], name, "fp32", parts=parts.get(name, [])) for name in folders],
        golden=golden["manifest"],
    )
    write(work / "small.edge", manifest, files | {"tokenizer.json": onnx / "tokenizer.json", **golden["files"]})
    return work / "small.edge"


def two(encoder: Path, folders: pytest.TempPathFactory) -> Path:
    """That of onnxruntime and openvino, made once in a run, whichever folder's tests ask."""
    needs("openvino")
    return once(folders, "two-engines", lambda work: make_bundle(encoder, work)) / "small.edge"


def _to_openvino(onnx: Path, out: Path) -> None:
    openvino = import_openvino()
    out.mkdir()
    openvino.save_model(
        openvino.convert_model(str(onnx / "model.onnx")), str(out / "model.xml"), compress_to_fp16=False
    )
    (out / "tokenizer.json").write_bytes((onnx / "tokenizer.json").read_bytes())
    artifact.write(out, artifact.read_spec(onnx), "openvino", "fp32")
