"""Torch to TFLite, with the proof that both answer alike at every length."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.errors import MissingDependencyError, StageError
from edgekit.evaluate import spec_of
from edgekit.export.parity import ExportReport, check
from edgekit.export.tflite_form import TfliteForm
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact

FIX = "pip install edgekit[compress]"
# litert_torch brings jax, 400 MB and threads of its own, and it prints; in a process of its own none of that stays.
_CHILD = """
import sys, torch
try:
    import litert_torch
except ImportError as error:
    sys.exit(f"cannot be imported: {error}")
program = torch.export.load(sys.argv[1])
shape = (1, int(sys.argv[3]))
inputs = {name: torch.ones(shape, dtype=torch.int32) for name in ("input_ids", "attention_mask")}
litert_torch.convert(program.module(), sample_kwargs=inputs).export(sys.argv[2])
"""


def export_litert(
    torch_folder: Path,
    out: Path,
    config: ExportConfig,
    lengths: list[int],
    texts: list[str],
    progress: Progress = Silent(),
    engine: str = "litert",
) -> ExportReport:
    """Write ``out``/model.tflite, tokenizer.json, task.json and artifact.json from the encoder in ``torch_folder``.

    One signature a length, ``tokens_16``, int32 (1, 16) ``input_ids`` and ``attention_mask``; those of ``lengths`` up
    to the task's ``max_length``, and that one. All share their weights. ``engine``: litert or tflite-runtime, which
    runs the same file. The same folder and lengths give the same bytes.
    Raises StageError when the file differs from torch by more than ``config`` allows, or cannot be made.
    """
    began = time.perf_counter()
    encoder = Encoder.from_pretrained(torch_folder).float().eval()
    longest = encoder.config.max_tokens
    buckets = sorted({n for n in lengths if n < longest} | {longest})
    out.mkdir(parents=True, exist_ok=True)
    progress.say(f"TFLite for {engine}: lengths {', '.join(map(str, buckets))}")
    operators = convert(encoder, buckets, out / "model.tflite")
    shutil.copyfile(Path(torch_folder) / "tokenizer.json", out / "tokenizer.json")
    artifact.write(out, spec_of(encoder.config), engine, "fp32")
    return check(encoder, out, config, texts, began, {"lengths": buckets, "operators": operators}, progress)


def convert(encoder: Encoder, lengths: list[int], path: Path) -> int:
    """Write ``encoder`` as a TFLite file with a signature a length; returns the number of operators of one length."""
    try:
        from edgekit.export import lengths as at
        from edgekit.export import tflite
    except ImportError as error:
        raise MissingDependencyError("TFLite files cannot be written", found=str(error), fix=FIX) from None
    form = TfliteForm(encoder).eval()
    length = at.marker(_dimensions(encoder.config))
    with tempfile.TemporaryDirectory() as folder:
        model = tflite.read(_converted(form, length, Path(folder)))
    for signature in model.signatureDefs:
        signature.outputs[0].name = "embeddings" if encoder.config.task == "embed" else "logits"
    at.name_tensors(model, [(name, tuple(linear.weight.shape)) for name, linear in form.linears()])
    model = at.with_lengths(model, length, lengths, form.position.detach()[: lengths[-1]].numpy())
    tflite.write(model, path)
    return len(model.subgraphs[0].operators)


def _dimensions(config: EncoderConfig) -> set[int]:
    """Sizes that axes of the graph have whatever the length is."""
    widths = [n * config.head_dim for n in config.heads]
    return {config.vocab_size, config.hidden_size, config.head_dim, len(config.labels), *config.ffn, *widths} | {
        times * n for times in (1, 2, 3) for n in (*config.heads, *widths)
    }


def _converted(form: TfliteForm, length: int, folder: Path) -> bytes:
    """``form`` at one length, as litert-torch writes it."""
    inputs = {name: torch.ones((1, length), dtype=torch.int32) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        program = torch.export.export(form, (), inputs)
    torch.export.save(program, folder / "form.pt2")
    made = folder / "made.tflite"
    # -P: nothing of the folder that the caller stands in can take the place of a package
    command = [sys.executable, "-P", "-c", _CHILD, str(folder / "form.pt2"), str(made), str(length)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode or not made.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        if last.startswith("cannot be imported"):
            raise MissingDependencyError("litert-torch", found=last, fix=FIX)
        raise StageError(
            "litert-torch could not convert the model",
            found=f"signal {-done.returncode}" if done.returncode < 0 else last,
        )
    return made.read_bytes()
