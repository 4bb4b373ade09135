"""tflite-runtime 2.14, as old boards have it: in an environment of its own, with the numpy that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.export import tflite
from edgekit.quantize.backend import Source
from edgekit.runtimes import artifact

pytestmark = pytest.mark.slow

TEXTS = ["a charming, funny film", "the plot is thin and the jokes fall flat", "no", "word " * 45, "it runs " * 60]
SCRIPT = """
import json, sys
from pathlib import Path
from edgekit.runtimes import artifact
for folder in sys.argv[2:]:
    model = artifact.load(Path(folder), threads=1)
    answer = {"engine": model.engine, "version": model.engine_version, "logits": model.logits(json.loads(sys.argv[1])).tolist()}
    print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with tflite-runtime 2.14, numpy below 2 and tokenizers, and nothing else."""
    folder = tmp_path_factory.mktemp("old") / "env"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "-q", "tflite-runtime==2.14.0", "numpy<2", "tokenizers"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"pip cannot install tflite-runtime 2.14 here: {last}")
    return python


def _made(fp32: Path, out: Path, engine: str, candidate: str, precision: str) -> Path:
    """An artifact of ``candidate`` for ``engine``."""
    from edgekit.quantize.litert import LiteRtBackend

    spec, ids = artifact.read_spec(fp32), np.arange(1000, 1014)[None]
    feeds = [{"input_ids": ids + 50 * n, "attention_mask": np.ones_like(ids)} for n in range(8)]
    backend = LiteRtBackend(Source(fp32, fp32, feeds, True, 0), engine)
    ((_, make),) = backend.variants(candidate)
    out.mkdir()
    backend.write(make(), out)
    (out / "tokenizer.json").write_bytes((fp32 / "tokenizer.json").read_bytes())
    artifact.write(out, spec, engine, precision)
    return out


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_files_made_for_it_are_answered_rightly_and_todays_dynamic_int8_is_not(
    old_python: Path, tiny_litert: Path, tmp_path: Path, root: Path
) -> None:
    folders = {"fp32": tiny_litert, "today": _made(tiny_litert, tmp_path / "today", "litert", "dynamic", "w8a8")}
    for candidate, precision in (("static", "w8a8"), ("weight-only", "w8a16"), ("fp16", "fp16")):
        folders[candidate] = _made(tiny_litert, tmp_path / candidate, "tflite-runtime", candidate, precision)
    done = subprocess.run(
        [str(old_python), "-c", SCRIPT, json.dumps(TEXTS), *map(str, folders.values())],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    answers = dict(zip(folders, map(json.loads, done.stdout.splitlines()), strict=True))
    right = {name: artifact.load(folder, threads=1).logits(TEXTS) for name, folder in folders.items()}
    assert {(a["engine"], a["version"]) for a in answers.values()} == {("tflite-runtime", "2.14.0")}

    lost = {name: _distance(np.array(answer["logits"]), right[name]) for name, answer in answers.items()}
    assert lost["fp32"] < 1e-4
    assert lost["weight-only"] < 1e-4
    assert lost["fp16"] < 1e-4
    assert lost["static"] < 0.05  # rounding to INT8 falls differently
    assert lost["today"] > 0.5  # without any error
    assert _distance(right["today"], right["fp32"]) < 0.05  # the file itself is good


def test_the_form_that_it_reads_rightly_has_no_products_with_scales_a_row_in_float(
    tiny_litert: Path, tmp_path: Path
) -> None:
    """INT8 weights go to a float product through DEQUANTIZE, or into a product whose input is INT8 too."""
    for candidate in ("static", "weight-only"):
        made = _made(tiny_litert, tmp_path / candidate, "tflite-runtime", candidate, "w8a8")
        model = tflite.read(made / "model.tflite")
        for graph in model.subgraphs:
            for operator in graph.operators:
                if tflite.kind(model, operator) == "FULLY_CONNECTED":
                    left, right = (graph.tensors[place].type for place in operator.inputs[:2])
                    assert left == right
