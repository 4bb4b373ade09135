"""What INT8 costs all six layers of MiniLM: Spearman on STS-B, beside fp32's, which is measured once in a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sharing import once


def pairs(shared_data: Path, part: str) -> list[list[str]]:
    """Two texts and their likeness as people see it, of STS-B's ``part``."""
    with open(shared_data / "text" / "stsb" / f"{part}.csv", encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file) if len(row) == 3]


@dataclass(frozen=True)
class MiniLm:
    """``torch`` and ``onnx``: folders in fp32, task embed, ``fp32``: Spearman of the latter on STS-B dev."""

    torch: Path
    onnx: Path
    fp32: float
    rows: list[list[str]]

    def spearman(self, model: Any) -> float:
        """Of ``model`` on the same pairs."""
        from scipy.stats import spearmanr

        a, b = model.embed([row[0] for row in self.rows]), model.embed([row[1] for row in self.rows])
        return float(spearmanr(np.sum(a * b, axis=1), [float(row[2]) for row in self.rows]).statistic)

    @property
    def judge(self) -> Callable[[Any], tuple[float, dict[str, Any]]]:
        """Of a model, what it loses against fp32."""
        return lambda model: (self.fp32 - self.spearman(model), {})


def minilm_to_rank(minilm: Path, shared_data: Path, folders: pytest.TempPathFactory) -> MiniLm:
    """Shared: nobody writes to its folders."""
    from edgekit.distill import folder
    from edgekit.distill.convert import import_model
    from edgekit.export import export_onnx
    from edgekit.recipe.stages import ExportConfig
    from edgekit.runtimes import artifact

    rows = pairs(shared_data, "dev")

    def make(work: Path) -> None:
        source = import_model(str(minilm), "embed", max_length=128)
        folder.save(source.encoder, source.tokenizer, work / "torch")
        export_onnx(work / "torch", work / "onnx", ExportConfig(), [row[0] for row in rows[:8]])
        found = MiniLm(work / "torch", work / "onnx", 0.0, rows).spearman(artifact.load(work / "onnx"))
        (work / "fp32.json").write_text(json.dumps(found))

    work = once(folders, "minilm-to-rank", make)
    return MiniLm(work / "torch", work / "onnx", json.loads((work / "fp32.json").read_text()), rows)
