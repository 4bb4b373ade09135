"""The quantize stage for dual encoders: tower by tower, the other one in fp32, judged by what both give together."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.dual import Tower
from edgekit.distill import ranges
from edgekit.distill.source import read_config
from edgekit.errors import StageError
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Example, Inputs
from edgekit.export.dual.towers import Feed, OpenTower
from edgekit.progress import Progress, Silent
from edgekit.quantize import qat
from edgekit.quantize.backend import Source, open_backend
from edgekit.quantize.report import QuantizeReport
from edgekit.quantize.search import Search
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact

Embeddings = NDArray[np.float32]
Kind = Literal["transformer", "convolution"]
CONVOLUTIONS = ("mci", "efficientnet")  # kinds of image towers


class DualJudge(Protocol):
    """Data to judge a dual encoder on, and what it loses there against fp32.

    A candidate for one tower embeds its side of the data; the other side comes from the fp32 tower, embedded once.
    """

    pictures: Sequence[NDArray[np.uint8]]  # (H, W, 3) each, RGB
    captions: Sequence[str]

    def drop(self, images: Embeddings, texts: Embeddings) -> tuple[float, dict[str, Any]]:
        """Of unit embeddings (pictures, D) and (captions, D): metric units lost, positive is worse, and details.

        Without a text tower the second is (0, D).
        """


@dataclass(frozen=True)
class DualQuantizeReport(QuantizeReport):
    """The reports of both towers as one: names of candidates and matrices start with the tower's.

    ``towers``: of each tower its precision, p50 in fp32 and of what was chosen, and why it stayed in fp32 if it did.
    """

    towers: dict[str, dict[str, Any]] = field(default_factory=dict)


def quantize_dual(
    fp32_folder: Path,
    torch_folder: Path,
    out: Path,
    config: QuantizeConfig,
    calibration: Sequence[Example],
    judge: DualJudge,
    precision: str = "w8a8",
    seed: int = 0,
    threads: int = 1,
    progress: Progress = Silent(),
    bound: float | None = None,
    min_speed: float = 0.0,
    first: Path | None = None,
) -> DualQuantizeReport:
    """As :func:`edgekit.quantize.run.quantize`, for the artifact of a dual encoder.

    ``calibration``: training pictures with captions. ``config.towers`` may give a tower a precision of its own, which
    it keeps however slow. A tower for which no candidate keeps within the bounds stays as it is. Raises StageError when
    that is so of all that were tried. ``first``: an artifact of this engine whose text tower was made of the same one:
    it is taken over, file by file, and only the image tower is quantized.
    """
    began = time.perf_counter()
    fp32_folder, out = Path(fp32_folder), Path(out)
    if not calibration:
        raise StageError("calibration examples", found="none", expected="at least one training picture with caption")
    about, inputs = artifact.read(fp32_folder), Inputs(fp32_folder)
    made = about.each_tower()
    sides = {name: embed(towers.open_tower(fp32_folder, name), inputs, name, judge) for name in about.towers}
    kinds = tower_kinds(torch_folder)
    reports: dict[str, QuantizeReport] = {}
    missed: dict[str, StageError] = {}
    wanted = {name: config.towers.of(name, precision) for name in about.towers}
    taken = None if first is None else artifact.read(first).tower("text")
    if taken is not None:
        made["text"], wanted["text"] = taken, "fp32"  # nothing is left to do
    with tempfile.TemporaryDirectory() as scratch:
        for name, tower in about.each_tower().items():
            if wanted[name] == "fp32":
                continue
            progress.say(f"quantize the {name} tower")
            feeds = inputs.of(name, calibration[: config.calibration_examples])
            subject = _Side(fp32_folder / name, about.engine, tower, wanted[name], name, feeds, inputs, judge, sides)
            given = [{key: feed[key] for key in tower.inputs} for feed in feeds]
            trained = ranges.of_tower(qat.trained(Path(torch_folder), about.engine, wanted[name], kinds[name]), name)
            source = Source(
                subject.fp32,
                Path(torch_folder),
                given,
                config.embeddings_int8,
                seed,
                config.reduce_range,
                kinds[name],
                trained,
            )
            work = Path(scratch) / name
            work.mkdir()
            limit = config.gate.max_drop if bound is None else bound
            backend = open_backend(about.engine, source)
            slowest = 0.0 if getattr(config.towers, name) else min_speed
            search = Search(
                subject, backend, work, config, limit, wanted[name], bool(trained), threads, progress, slowest
            )
            tried = [qat.NAME] if trained else config.candidates_for(about.engine, wanted[name])
            for candidate in dict.fromkeys(tried):
                search.attempt(candidate)
            try:
                reports[name] = search.finish(work / "chosen", began)
                made[name] = replace(tower, precision=wanted[name])
            except StageError as error:
                missed[name] = error
        if missed and not reports and (taken is None or taken.precision == "fp32"):
            told = "; ".join(f"{name} tower: {error.what}: {error.found}" for name, error in missed.items())
            one = next(iter(missed.values()))
            raise StageError("no INT8 candidate of either tower", found=told, expected=one.expected, fix=one.fix)
        for name in about.towers:
            (out / name).mkdir(parents=True, exist_ok=True)
            origin = Path(scratch) / name / "chosen" if name in reports else fp32_folder / name
            if name == "text" and taken is not None and first is not None:
                origin = first / name
            for file in artifact.FILES[about.engine]:
                shutil.copyfile(origin / file, out / name / file)
    shutil.copyfile(fp32_folder / "tokenizer.json", out / "tokenizer.json")
    artifact.write(out, artifact.read_spec(fp32_folder), about.engine, precision, made)
    return _joined(reports, missed, wanted, taken, time.perf_counter() - began)


def tower_kinds(torch_folder: Path) -> dict[str, Kind]:
    """What the weights of each tower are in, by the config of the model that they were exported from."""
    image = read_config(Path(torch_folder)).get("image", {})
    return {"image": "convolution" if image.get("kind") in CONVOLUTIONS else "transformer", "text": "transformer"}


def embed(tower: OpenTower, inputs: Inputs, name: str, judge: DualJudge) -> Embeddings:
    """Unit embeddings of the judge's pictures, or captions, one inference each as a device makes them."""
    if name == "image":
        feeds = (inputs.of(name, [(picture, "")])[0] for picture in judge.pictures)
    else:
        feeds = (inputs.text(caption) for caption in judge.captions)
    rows = np.concatenate([tower(feed) for feed in feeds])
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class _Side:
    """One tower as what is quantized; see :class:`edgekit.quantize.search.Subject`."""

    def __init__(
        self,
        fp32: Path,
        engine: str,
        tower: Tower,
        precision: str,
        name: str,
        feeds: list[Feed],
        prepared: Inputs,
        judge: DualJudge,
        sides: dict[str, Embeddings],
    ) -> None:
        self.fp32, self.engine, self.tower, self.precision, self.name = fp32, engine, tower, precision, name
        self.inputs, self.prepared, self.data, self.sides = feeds, prepared, judge, sides

    def complete(self, folder: Path) -> None:
        """Nothing: a tower is its files alone."""

    def load(self, folder: Path, threads: int) -> OpenTower:
        precision = "fp32" if folder == self.fp32 else self.precision
        return OpenTower(folder, self.engine, replace(self.tower, precision=precision), threads)

    def answer(self, loaded: OpenTower, one: Feed) -> Any:
        return loaded(one)

    def outputs(self, loaded: OpenTower, inputs: list[Feed]) -> Embeddings:
        return np.concatenate([loaded(feed) for feed in inputs])

    def judge(self, loaded: OpenTower) -> tuple[float, dict[str, Any]]:
        sides = {**self.sides, self.name: embed(loaded, self.prepared, self.name, self.data)}
        return self.data.drop(sides["image"], sides.get("text", sides["image"][:0]))

    def size_bytes(self, folder: Path) -> int:
        return sum((folder / file).stat().st_size for file in artifact.FILES[self.engine])


def _joined(
    reports: dict[str, QuantizeReport],
    missed: dict[str, StageError],
    wanted: dict[str, str],
    taken: Tower | None,
    seconds: float,
) -> DualQuantizeReport:
    candidates, sensitivity = [], []
    told: dict[str, dict[str, Any]] = {}
    for name, report in reports.items():
        candidates += [{**one, "name": f"{name}/{one['name']}"} for one in report.candidates]
        sensitivity += [{**one, "matrix": f"{name}/{one['matrix']}"} for one in report.sensitivity]
        chosen = next(one for one in report.candidates if one["chosen"])
        told[name] = {
            "precision": wanted[name],
            "chosen": report.chosen,
            "fp32_p50_ms": report.fp32_p50_ms,
            "p50_ms": chosen["p50_ms"],
        }
    for name, error in missed.items():
        told[name] = {"precision": "fp32", "chosen": "", "reason": f"{error.what}: {error.found}"}
    for name in wanted.keys() - told.keys():
        told[name] = {"precision": "fp32", "chosen": "", "reason": "fp32 was asked for"}
    if taken is not None:
        told["text"] = {"precision": taken.precision, "chosen": "", "reason": "the first rung's"}
    return DualQuantizeReport(
        candidates=candidates,
        sensitivity=sensitivity,
        chosen=", ".join(f"{name}: {one['chosen'] or 'fp32'}" for name, one in sorted(told.items())),
        fp32_p50_ms=sum(report.fp32_p50_ms for report in reports.values()),
        seconds=seconds,
        towers=told,
    )
