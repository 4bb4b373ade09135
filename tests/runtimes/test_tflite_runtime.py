"""tflite-runtime 2.14, as old boards have it: in an environment of its own, with the numpy that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Manifest, ModelFile, write
from edgekit.export import tflite
from edgekit.quantize.backend import Source
from edgekit.runtimes import artifact
from edgekit.runtimes.golden import make
from edgekit.runtimes.preprocess import TextPreprocessor

pytestmark = pytest.mark.slow

TEXTS = ["a charming, funny film", "the plot is thin and the jokes fall flat", "no", "word " * 45, "it runs " * 60]
SCRIPT = """
import json, sys
from pathlib import Path
from edgekit.runtimes import artifact
texts = json.loads(sys.argv[1])
for folder in sys.argv[2:]:
    model = artifact.load(Path(folder), threads=1)
    print(json.dumps([model.engine, model.engine_version, model.logits(texts).tolist()]))
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

    spec = artifact.read_spec(fp32)
    windows = TextPreprocessor(fp32 / "tokenizer.json", spec).windows(TEXTS)
    ids = [np.array([window.ids]) for window in windows]
    feeds = [{"input_ids": each, "attention_mask": np.ones_like(each)} for each in ids]
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
    assert {(engine, version) for engine, version, _ in answers.values()} == {("tflite-runtime", "2.14.0")}

    lost = {name: _distance(np.array(logits), right[name]) for name, (_, _, logits) in answers.items()}
    assert lost["fp32"] < 1e-4
    assert lost["weight-only"] < 1e-4
    assert lost["fp16"] < 1e-4
    assert lost["today"] > 0.5  # without any error
    assert _distance(right["today"], right["fp32"]) < 0.05  # the file itself is good
    # INT8 activations are rounded differently by the two, but no worse
    static = [_distance(np.array(one), right["fp32"]) for one in (answers["static"][2], right["static"])]
    assert static[0] < 1.5 * static[1] < 0.6


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


LOADING = """
import json, sys, warnings, edgekit
from edgekit.errors import EdgekitError
path, texts = sys.argv[1], json.loads(sys.argv[2])
found = {}
for file in sys.argv[3:]:
    try:
        found[file] = edgekit.load(path, threads=1, file=file).logits(texts).tolist()
    except EdgekitError as error:
        found[file] = f"{type(error).__name__}: {error}"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = edgekit.load(path, threads=1)
print(json.dumps([found, model.engine, model.file, [str(one.message) for one in caught]]))
"""


def test_load_refuses_wrong_answers_and_takes_the_file_that_was_made_for_it(
    old_python: Path, tiny_litert: Path, tmp_path: Path, root: Path
) -> None:
    folders = {
        "models/w8a8.tflite": _made(tiny_litert, tmp_path / "new", "litert", "dynamic", "w8a8"),
        "models/w8a16-tflite-runtime.tflite": _made(
            tiny_litert, tmp_path / "old", "tflite-runtime", "weight-only", "w8a16"
        ),
    }
    golden = make({file: artifact.load(folder, 1, file) for file, folder in folders.items()}, TEXTS)
    about = {file: artifact.read(folder) for file, folder in folders.items()}
    manifest = Manifest(
        name="old",
        created="2025-01-01T00:00:00Z",
        edgekit_version="0.1.0",
        task=artifact.read_spec(tiny_litert),
        models=[ModelFile(file, one.engine, one.precision) for file, one in about.items()],
        golden=golden["manifest"],
    )
    files: dict[str, Path | bytes] = {file: folder / "model.tflite" for file, folder in folders.items()}
    write(tmp_path / "x.edge", manifest, {**files, "tokenizer.json": tiny_litert / "tokenizer.json", **golden["files"]})
    done = subprocess.run(
        [str(old_python), "-c", LOADING, str(tmp_path / "x.edge"), json.dumps(TEXTS), *folders],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "EDGEKIT_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    found, engine, file, warned = json.loads(done.stdout)
    refused, right = found.values()
    assert refused.startswith("VerificationError: golden vectors of models/w8a8.tflite in tflite-runtime 2.14")
    assert "pip install edgekit[litert]" in refused
    assert _distance(np.array(right), artifact.load(tmp_path / "old", 1).logits(TEXTS)) < 1e-3
    assert (engine, file) == ("tflite-runtime", "models/w8a16-tflite-runtime.tflite")
    assert len(warned) == 1
    assert "tflite-runtime (models/w8a8.tflite): golden vectors" in warned[0]
