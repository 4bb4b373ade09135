"""Torch to TFLite, with the proof that both answer alike at every length."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from edgekit.distill.clip.dual import is_dual
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.distill.foreign import Foreign, open_torch
from edgekit.errors import MissingDependencyError, StageError
from edgekit.evaluate import spec_of
from edgekit.export.parity import ExportReport, check
from edgekit.export.tflite_form import ForeignForm, TfliteForm
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact

# By name: the inputs of each, whose shapes and dtypes are the signature's.
Signatures: TypeAlias = dict[str, dict[str, Tensor]]
FIX = "pip install edgekit[compress]"
# litert_torch brings jax, 400 MB and threads of its own, and it prints; in a process of its own none of that stays.
_CHILD = """
import sys, torch
try:
    import litert_torch
except ImportError as error:
    sys.exit(f"cannot be imported: {error}")
for folder in sys.argv[2:]:
    made = litert_torch
    for name in open(f"{sys.argv[1]}/{folder}/names").read().split():
        program = torch.export.load(f"{sys.argv[1]}/{folder}/{name}.pt2")
        made = made.signature(name, program.module(), sample_kwargs=torch.load(f"{sys.argv[1]}/{folder}/{name}.pt"))
    made.convert().export(f"{sys.argv[1]}/{folder}/made.tflite")
"""


def export_litert(
    torch_folder: Path,
    out: Path,
    config: ExportConfig,
    lengths: list[int],
    examples: Sequence[Any],
    progress: Progress = Silent(),
    engine: str = "litert",
) -> ExportReport:
    """Write ``out``/model.tflite, tokenizer.json, task.json and artifact.json from the encoder in ``torch_folder``.

    One signature a length, ``tokens_16``, int32 (1, 16) ``input_ids`` and ``attention_mask``; those of ``lengths`` up
    to the task's ``max_length``, and that one. All share their weights. ``engine``: litert or tflite-runtime, which
    runs the same file. The same folder and lengths give the same bytes. ``examples``: texts, that parity is measured
    on. A dual encoder becomes a file for each tower, as :func:`edgekit.export.dual.litert.export_dual_litert` says; its
    examples are pictures, uint8 (H, W, 3), with captions.
    Raises StageError when the file differs from torch by more than ``config`` allows, or cannot be made.
    """
    if is_dual(torch_folder):
        from edgekit.export.dual.litert import export_dual_litert

        return export_dual_litert(torch_folder, out, config, lengths, examples, progress, engine)
    began, texts = time.perf_counter(), list(examples)
    encoder = open_torch(torch_folder)
    longest = encoder.config.max_tokens
    buckets = sorted({n for n in lengths if n < longest} | {longest})
    out.mkdir(parents=True, exist_ok=True)
    progress.say(f"TFLite for {engine}: lengths {', '.join(map(str, buckets))}")
    operators = convert(encoder, buckets, out / "model.tflite")
    shutil.copyfile(Path(torch_folder) / "tokenizer.json", out / "tokenizer.json")
    artifact.write(out, spec_of(encoder.config), engine, "fp32")
    return check(encoder, out, config, texts, began, {"lengths": buckets, "operators": operators}, progress)


def convert(encoder: Encoder | Foreign, lengths: list[int], path: Path) -> int:
    """Write ``encoder`` as a TFLite file with a signature a length; returns the number of operators of one length.

    Ours is converted once, and the other lengths are made of that graph; a foreign one is converted at each length.
    """
    try:
        from edgekit.export import lengths as at
        from edgekit.export import tflite
    except ImportError as error:
        raise MissingDependencyError("TFLite files cannot be written", found=str(error), fix=FIX) from None
    if isinstance(encoder, Foreign):
        model = tflite.read(_converted(ForeignForm(encoder).eval(), lengths))
        at.name_graphs(model)
    else:
        form = TfliteForm(encoder).eval()
        length = at.marker(_dimensions(encoder.config))
        model = tflite.read(_converted(form, [length]))
        at.name_tensors(model, [(name, tuple(linear.weight.shape)) for name, linear in form.linears()])
        model = at.with_lengths(model, length, lengths, form.position.detach()[: lengths[-1]].numpy())
    for signature in model.signatureDefs:
        signature.outputs[0].name = "embeddings" if encoder.config.task == "embed" else "logits"
    tflite.write(model, path)
    return len(model.subgraphs[0].operators)


def _dimensions(config: EncoderConfig) -> set[int]:
    """Sizes that axes of the graph have whatever the length is."""
    widths = [n * config.head_dim for n in config.heads]
    return {config.vocab_size, config.hidden_size, config.head_dim, len(config.labels), *config.ffn, *widths} | {
        times * n for times in (1, 2, 3) for n in (*config.heads, *widths)
    }


def _converted(form: TfliteForm | ForeignForm, lengths: list[int]) -> bytes:
    """``form`` at each of ``lengths``, as litert-torch writes it."""
    names = ("input_ids", "attention_mask")
    signatures = {f"tokens_{n}": {name: torch.ones((1, n), dtype=torch.int32) for name in names} for n in lengths}
    return converted([(form, signatures)])[0]


def converted(modules: Sequence[tuple[nn.Module, Signatures]]) -> list[bytes]:
    """Each module with its signatures, as litert-torch writes it: a file for each, in this order.

    All are made in one process, since starting it takes longer than converting a small model. Raises
    MissingDependencyError, or StageError where a module cannot be converted.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(number) for number in range(len(modules))]
        for place, (module, signatures) in zip(places, modules, strict=True):
            place.mkdir()
            (place / "names").write_text("\n".join(signatures))
            for name, inputs in signatures.items():
                with torch.no_grad():
                    torch.export.save(torch.export.export(module, (), inputs), place / f"{name}.pt2")
                torch.save(inputs, place / f"{name}.pt")
        # -P: nothing of the folder that the caller stands in can take the place of a package
        command = [sys.executable, "-P", "-c", _CHILD, folder, *(place.name for place in places)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        made = [place / "made.tflite" for place in places]
        if done.returncode == 0 and all(file.is_file() for file in made):
            return [file.read_bytes() for file in made]
    last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    if last.startswith("cannot be imported"):
        raise MissingDependencyError("litert-torch", found=last, fix=FIX)
    raise StageError(
        "litert-torch could not convert the model",
        found=f"signal {-done.returncode}" if done.returncode < 0 else last,
    )
