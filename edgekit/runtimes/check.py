"""A loaded model file beside its golden vectors: the proof that it answers here as it did where it was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.bundle import Bundle
from edgekit.bundle.golden import NAME, Golden, Tolerance
from edgekit.bundle.golden import read as read_golden
from edgekit.bundle.plain import read_plain
from edgekit.bundle.tensors import MAX_BYTES
from edgekit.errors import BundleError, VerificationError
from edgekit.runtimes import isa
from edgekit.runtimes.golden import alone, differences, files_of
from edgekit.runtimes.golden import on_gpu as gpu_tolerance

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

LONG = 64  # tokens: what a load may spend on its proof, and what room LiteRT sets aside for it
OLD_LITERT = (
    "tflite-runtime answers newer INT8 operators wrongly without a word. Install LiteRT (pip install edgekit[litert]), "
    "or compress again with tflite-runtime among the recipe's engines."
)


@dataclass(frozen=True)
class Compared:
    """What ``count`` golden examples gave of ``file`` on ``isa``: the worst, and what it may be.

    ``isa``: the instruction set; where a GPU has a part, which execution providers have how many nodes.
    """

    file: str
    count: int
    isa: str
    max_abs: float
    min_cosine: float
    tolerance: Tolerance

    @property
    def ok(self) -> bool:
        """Whether both are within the tolerance."""
        return self.max_abs <= self.tolerance.max_abs and self.min_cosine >= self.tolerance.min_cosine

    def __str__(self) -> str:
        return (
            f"{self.count} examples on {self.isa}: max abs {self.max_abs:.3g} (at most {self.tolerance.max_abs:.3g}), "
            f"min cosine {self.min_cosine:.6f} (at least {self.tolerance.min_cosine:.6f}); "
            f"tolerance {self.tolerance.basis}"
        )


def golden_of(bundle: Bundle) -> Golden | None:
    """The bundle's golden vectors; None where it has none. Raises ``BundleError`` for those that cannot be read."""
    manifest = bundle.manifest
    if not manifest.golden:
        return None
    data = read_plain(bundle.file(NAME), f"{bundle.root.name}: {NAME}", MAX_BYTES)
    return read_golden(manifest.golden, data, manifest.task.task)


def sample(golden: Golden) -> list[int]:
    """Numbers of two examples: of the shortest text, and of the longest of at most ``LONG`` tokens and one window."""
    tokens = {i: len(windows[0]) for i, windows in enumerate(golden.ids) if len(windows) == 1}
    by_length = sorted(tokens, key=tokens.__getitem__) or [0]
    longest = [i for i in by_length if tokens.get(i, 0) <= LONG][-1:]
    return list(dict.fromkeys(by_length[:1] + longest))


def compare(model: Model | DualModel, golden: Golden, which: Sequence[int] | None = None) -> list[Compared]:
    """Run the golden examples (those of numbers ``which``, or all), each by itself. One answer a file: a tower has one.

    Raises ``BundleError`` when the bundle has no outputs or no tolerance for a file, ``EngineError`` from the engine.
    """
    here, files = isa.detect(), files_of(model)
    for file, _ in files.values():
        if file not in golden.outputs:
            raise BundleError(f"{NAME} has no outputs of {file}")
    examples = golden.examples
    numbers = range(len(examples)) if which is None else which
    found = alone(model, [examples[i] for i in numbers])
    compared = []
    for role, (file, precision) in files.items():
        expected = [golden.outputs[file][i] for i in numbers]
        largest, cosine = differences(expected, found[role])
        where, tolerance = here, golden.tolerance(file, here)
        placement = model.placements.get(role)
        if placement is not None and placement.gpu_share != 0:
            where, tolerance = str(placement), gpu_tolerance(file, precision, golden.outputs[file])
        compared.append(Compared(file, len(numbers), where, largest, cosine, tolerance))
    return compared


def prove(model: Model | DualModel, golden: Golden) -> None:
    """Raise ``VerificationError`` unless ``model`` gives a few golden answers, ``EngineError`` from the engine."""
    try:
        bad = [found for found in compare(model, golden, sample(golden)) if not found.ok]
    except BundleError as error:
        raise VerificationError(str(error), fix="Make the bundle again.") from None
    if not bad:
        return
    other = other_ids(model.token_ids, golden)
    if other:
        raise VerificationError(
            f"the tokenizer of {model.file}",
            found=f"other token ids for {len(other)} golden texts",
            fix="Install the version of tokenizers that the bundle was made with, or a newer one.",
        )
    raise VerificationError(
        f"golden vectors of {bad[0].file} in {model.engine} {model.engine_version}",
        found=str(bad[0]),
        fix=OLD_LITERT if model.engine == "tflite-runtime" else "`edgekit verify` shows each file of the bundle.",
    )


def other_ids(token_ids: Callable[[str], list[list[int]]], golden: Golden) -> list[int]:
    """Numbers of the golden texts that the tokenizer cuts into other ids than where the bundle was made."""
    return [i for i, text in enumerate(golden.texts) if token_ids(text) != golden.ids[i]]
