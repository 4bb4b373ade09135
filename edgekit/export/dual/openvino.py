"""Both towers of a dual encoder to OpenVINO IR, made of their ONNX files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Example
from edgekit.export.dual.onnx import finish, load_merged
from edgekit.export.dual.parity import check_towers
from edgekit.export.ir import convert, name_nodes, save
from edgekit.export.parity import ExportReport
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig


def export_dual_openvino(
    torch_folder: Path,
    onnx_folder: Path,
    out: Path,
    config: ExportConfig,
    examples: Sequence[Example],
    progress: Progress = Silent(),
) -> ExportReport:
    """Write ``out``/image/model.xml and model.bin, text likewise, tokenizer.json, task.json and artifact.json.

    From the ONNX files in ``onnx_folder``; inputs and outputs as theirs. The same folders give the same bytes.
    Raises StageError when a file differs from torch by more than ``config`` allows, or fails at some shape.
    """
    began = time.perf_counter()
    model = load_merged(torch_folder)
    for name in model.towers:
        progress.say(f"OpenVINO IR: {name} tower")
        converted = convert(str(Path(onnx_folder) / name / "model.onnx"))
        name_nodes(converted, towers.OUTPUTS[name], "projection")
        (out / name).mkdir(parents=True, exist_ok=True)
        save(converted, out / name)
    finish(model, Path(torch_folder), out, "openvino")
    return check_towers(model, out, config, examples, began, {"converted_from": "onnx"}, progress)
