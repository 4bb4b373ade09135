"""What a device relies on: nothing heavy is imported, telemetry is off, memory stays bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BLOCKED = """
import sys
BLOCKED = {"torch", "transformers", "onnx", "typer", "click", "rich", "pydantic", "yaml", "jinja2", "scipy", "pandas",
           "sklearn", "datasets", "accelerate", "nncf", "safetensors", "huggingface_hub", "requests", "PIL"}
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Wall())
"""


def run(code: str, *given: object) -> str:
    command = [sys.executable, "-c", code, *map(str, given)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "embed", "tag"])
def test_a_bundle_runs_without_the_workstation(bundle_of: Callable[[str], Path], task: str) -> None:
    told = run(
        BLOCKED + "began = set(sys.modules)  # what the virtual environment itself imports at start\n"
        "import edgekit\n"
        "model = edgekit.load(sys.argv[1])\n"
        "assert len(model.run(['a funny film', 'dull ' * 200])) == 2\n"
        "assert edgekit.verify(sys.argv[1]).ok\n"
        "files = {n.partition('.')[0]: getattr(m, '__file__', '') or '' for n, m in sys.modules.items()}\n"
        "third = {n for n, file in files.items() if 'site-packages' in file and n not in began}\n"
        "print(sorted(third - {'edgekit'}))",
        bundle_of(task),
    )
    assert set(json.loads(told.replace("'", '"'))) == {"numpy", "tokenizers", "onnxruntime"}


@pytest.mark.slow
def test_of_two_engines_only_one_is_imported(two_engines: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, json\n"
        "os.environ['EDGEKIT_CACHE'] = sys.argv[2]\n"
        "import edgekit\n"
        "engine = edgekit.load(sys.argv[1], threads=1).engine\n"
        "here = [n for n in ('onnxruntime', 'openvino') if n in sys.modules]\n"
        "print(json.dumps([engine, here, 'edgekit.runtimes.calibrate' in sys.modules]))"
    )
    patient = "import edgekit.runtimes.calibrate\nedgekit.runtimes.calibrate.LIMIT_S = 60\n"  # a busy machine is slow
    engine, here, _ = json.loads(run(patient + code, two_engines, tmp_path))
    assert here == [engine]
    assert [path for path in tmp_path.rglob("*") if path.is_file()], "something to remember"
    assert json.loads(run(code, two_engines, tmp_path)) == [engine, [engine], False], "remembered"


def test_import_alone_is_light() -> None:
    told = run("import sys, edgekit; print([n for n in ('numpy', 'tokenizers', 'onnxruntime') if n in sys.modules])")
    assert told.strip() == "[]"


def test_the_engine_is_imported_by_load_only(small_bundle: Path) -> None:
    run(
        "import sys, edgekit, edgekit.runtimes.load, edgekit.bundle\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "edgekit.load(sys.argv[1])\n"
        "assert 'onnxruntime' in sys.modules",
        small_bundle,
    )


def test_telemetry_is_off_before_the_engine_starts(small_bundle: Path) -> None:
    run(
        "import os, sys\n"
        "os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
        "class Witness:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('onnxruntime.capi'): assert os.environ.get('ORT_DISABLE_TELEMETRY') == '1'\n"
        "sys.meta_path.insert(0, Witness())\n"
        "import edgekit; edgekit.load(sys.argv[1])",
        small_bundle,
    )


def test_public_names_are_functions_even_after_submodules_were_imported() -> None:
    run(
        "import edgekit\n"
        "import edgekit.runtimes.verify, edgekit.runtimes.load\n"
        "assert callable(edgekit.load) and callable(edgekit.verify)\n"
        "assert {'load', 'compress', 'profile', 'verify', '__version__'} <= set(dir(edgekit))\n"
        "try: edgekit.nothing\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit(1)"
    )


MEMORY = """
import resource, sys, edgekit
model = edgekit.load(sys.argv[1], threads=1, file=sys.argv[2])
model.run("short")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[3] == "many":
    texts = ["a fox " * (1 + i % 3) for i in range(10_000)]
else:
    texts = ["a word that is " * 6667]
assert len(model.run(texts)) == len(texts)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
BOUND_MB = 64  # a batch of all 10,000 at once would take many times as much


@pytest.mark.parametrize("file", ["models/int8.onnx", pytest.param("models/fp32.onnx", marks=pytest.mark.slow)])
def test_memory_is_bounded_for_one_long_text(bundle_of: Callable[[str], Path], file: str) -> None:
    assert int(run(MEMORY, bundle_of("embed"), file, "long")) < BOUND_MB


@pytest.mark.slow
@pytest.mark.parametrize("file", ["models/int8.onnx", "models/fp32.onnx"])
def test_memory_is_bounded_for_ten_thousand_texts(bundle_of: Callable[[str], Path], file: str) -> None:
    assert int(run(MEMORY, bundle_of("classify"), file, "many")) < BOUND_MB
