"""What a manifest holds, as frozen records. docs/bundle.md is the specification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgekit.bundle.dual import DualSpec, ImageSpec, Tower
from edgekit.bundle.record import SPARE, Record
from edgekit.errors import BundleError, InputError

SCHEMA_VERSION = 1

# How the windows of a text that is longer than max_length become one answer; the words are the identifiers.
AGGREGATION = {
    "classify": "mean of the windows' logits weighted by their tokens",
    "embed": "mean of the windows' embeddings weighted by their tokens",
    "tag": "each token from the window where it is farthest from an edge",
    "clip": "the first max_length tokens, the last of them the end token",
}
MAX_LABELS = 1 << 16
MAX_LABEL = 1 << 10  # characters of one
# Text tasks have labels; these have none.
_WITHOUT_LABELS = ("embed", "clip")


@dataclass(frozen=True)
class StageRecord(Record):
    """What one stage of the pipeline did, and why it stayed or was rolled back.

    ``value``/``low``/``high``: ``metric`` on the test part with its 95 % interval. ``gate_*``: on the validation part,
    which decides; a positive drop is a loss against the stage before. ``agreement``: with the teacher on the test part,
    share of equal top-1 (classify, tag) or mean cosine (embed). ``parity_*``: against the stage before.
    ``p50_ms`` and ``before_p50_ms`` come from one interleaved run.
    """

    stage: str
    kept: bool
    reason: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    gate_value: float | None = None
    gate_drop: float | None = None
    gate_drop_low: float | None = None
    gate_drop_high: float | None = None
    agreement: float | None = None
    parity_cosine: float | None = None
    parity_max_abs: float | None = None
    size_bytes: int = 0
    p50_ms: float | None = None
    before_p50_ms: float | None = None
    seconds: float = 0.0
    candidates: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FileEntry(Record):
    """A file of the bundle: POSIX path from its root, hex sha256, size in bytes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class ModelFile(Record):
    """A model file and the engine that runs it; the manifest lists them by preference.

    ``parts``: further files that it needs, such as the weights beside an ``.xml``. ``failed``: why it missed its bound;
    such a file is packed on request only, and the last that is chosen.

    ``towers``, task clip only: "image" and, unless it is left out, "text", each the values of a
    :class:`Tower`. ``path`` is then the image tower's, and ``inputs`` and ``output`` are not looked at. Raises
    :class:`InputError` for towers that do not fit.
    """

    path: str
    engine: str
    precision: str
    inputs: list[str] = field(default_factory=lambda: ["input_ids", "attention_mask"])
    output: str = "logits"
    parts: list[str] = field(default_factory=list)
    failed: str = ""
    towers: dict[str, Any] = field(default_factory=dict, metadata=SPARE)

    def __post_init__(self) -> None:
        if not self.towers:
            return
        image, text = self.tower("image"), self.tower("text")
        if image is None or image.path != self.path:
            raise InputError("towers: image", found=image and image.path, expected=f"the tower in {self.path}")
        if len(image.inputs) != 1:
            raise InputError("towers: image: inputs", found=image.inputs, expected="one, the pixels")
        if text is not None and (text.path == self.path or text.path not in self.parts):
            raise InputError("towers: text: path", found=repr(text.path)[:80], expected="one of parts")
        if text is not None and len(text.inputs) not in (1, 2):
            raise InputError("towers: text: inputs", found=text.inputs, expected="token ids, or token ids and mask")

    def tower(self, name: str) -> Tower | None:
        """The tower "image" or "text"; None where there is none. Raises :class:`InputError`."""
        if self.towers.get(name) is None:
            return None
        try:
            found: Tower = Tower.from_dict(self.towers[name], f"towers: {name}")
        except BundleError as error:  # whoever reads a manifest adds where it stands
            raise InputError(error.what, found=error.found, expected=error.expected) from None
        return found


@dataclass(frozen=True)
class RungRecord(Record):
    """One rung of a ladder, which a stream may go down to.

    ``layers``: its depth; or, task clip, ``channels``: percent of the image tower's hidden channels that it has.
    ``metric`` to ``agreement``: of its fastest file on the test part, as in :class:`StageRecord`. ``size_bytes``: of
    that file with its parts; ``p50_ms``: text to answer, all files of the bundle in turns. ``models``: by preference;
    none for the first rung, whose files are the manifest's own.
    """

    name: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    agreement: float
    size_bytes: int
    p50_ms: float
    models: list[ModelFile] = field(default_factory=list)
    layers: int | None = field(default=None, metadata=SPARE)
    channels: int | None = field(default=None, metadata=SPARE)


@dataclass(frozen=True)
class TaskSpec(Record):
    """What the model answers and how text becomes tokens.

    ``max_length``: tokens a window, special tokens included; ``stride``: tokens that neighbouring windows share.
    ``aggregation``: one of :data:`AGGREGATION`, filled in when empty. Raises :class:`InputError` for values that cannot
    be meant.

    For task clip, ``max_length`` is the context length, to which a longer text is cut, ``stride`` is 0, ``pictures``
    says how pictures are prepared and ``similarity`` how cosines become scores. ``fixed_length``: every text is padded
    to ``max_length``, because padding takes part in the answer. Other tasks have none of the three.
    """

    task: str
    labels: list[str]
    max_length: int
    stride: int
    pad_id: int = 0
    normalize: bool = False
    aggregation: str = ""
    pictures: ImageSpec | None = field(default=None, metadata=SPARE)
    similarity: DualSpec | None = field(default=None, metadata=SPARE)
    fixed_length: bool = field(default=False, metadata=SPARE)

    def __post_init__(self) -> None:
        if self.task not in AGGREGATION:
            raise InputError("task", found=repr(self.task), expected=", ".join(AGGREGATION))
        if not self.aggregation:
            object.__setattr__(self, "aggregation", AGGREGATION[self.task])
        if self.aggregation != AGGREGATION[self.task]:
            raise InputError("aggregation", found=repr(self.aggregation), expected=repr(AGGREGATION[self.task]))
        if self.task not in _WITHOUT_LABELS and not self.labels:
            raise InputError("labels", found="none", expected=f"one name a class for task {self.task}")
        if len(self.labels) > MAX_LABELS or any(len(label) > MAX_LABEL for label in self.labels):
            longest = max(map(len, self.labels))
            raise InputError(
                "labels",
                found=f"{len(self.labels)} names, the longest of {longest} characters",
                expected=f"at most {MAX_LABELS} of {MAX_LABEL} characters",
            )
        if not 4 <= self.max_length <= 1 << 20:
            raise InputError("max_length", found=self.max_length, expected="4 to 1048576 tokens")
        if not 0 <= self.stride <= self.max_length // 2:
            raise InputError("stride", found=self.stride, expected=f"0 to {self.max_length // 2} tokens")
        if not 0 <= self.pad_id < 1 << 31:
            raise InputError("pad_id", found=self.pad_id, expected="a token id")
        if self.task == "clip":
            if self.pictures is None or self.similarity is None:
                missing = "pictures" if self.pictures is None else "similarity"
                raise InputError(missing, found="none", expected="an object, for task clip")
            if self.stride:
                raise InputError("stride", found=self.stride, expected="0, for task clip")


@dataclass(frozen=True)
class Manifest(Record):
    """manifest.json. ``files`` is filled by :func:`edgekit.bundle.write`; the other fields by the pipeline.

    ``release``: a number that grows, set by :func:`edgekit.bundle.sign.sign`; 0 for a bundle that was never given one.
    """

    name: str
    created: str
    edgekit_version: str
    task: TaskSpec
    models: list[ModelFile]
    schema_version: int = SCHEMA_VERSION
    files: list[FileEntry] = field(default_factory=list)
    stages: list[StageRecord] = field(default_factory=list)
    budget: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    licences: list[dict[str, Any]] = field(default_factory=list)
    golden: dict[str, Any] = field(default_factory=dict)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    parity: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    release: int = field(default=0, metadata=SPARE)
    ladder: list[RungRecord] = field(default_factory=list, metadata=SPARE)

    def __post_init__(self) -> None:
        self._check_ladder()
        if not 0 <= self.release < 1 << 63:
            raise InputError("release", found=str(self.release)[:40], expected="0 or more, below 2^63")
        if not self.models:
            raise InputError("models", found="none", expected="at least one model file")
        for model in self.every_model:
            if bool(model.towers) != (self.task.task == "clip"):
                raise InputError(
                    f"models: towers of {model.path!r:.80}",
                    found=", ".join(model.towers)[:80] or "none",
                    expected="image, and perhaps text" if not model.towers else f"none for {self.task.task}",
                )

    def _check_ladder(self) -> None:
        if not self.ladder:
            return
        names = [rung.name for rung in self.ladder]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError("ladder", found=f"rungs {names!r:.80}", expected="two or more, each with its own name")
        if self.ladder[0].models:
            raise InputError("ladder: models of the first rung", found="some", expected="none: they are models")
        for rung in self.ladder[1:]:
            if not rung.models:
                raise InputError(f"ladder: models of rung {rung.name!r:.80}", found="none", expected="one or more")
        paths = [model.path for model in self.every_model]
        if len(set(paths)) < len(paths):
            raise InputError("ladder: models", found="a path twice", expected="each model file in one rung")

    @property
    def every_model(self) -> list[ModelFile]:
        """The model files of all rungs, the first's before the others'. Without a ladder: ``models``."""
        return [*self.models, *(model for rung in self.ladder for model in rung.models)]

    def rung(self, name: str) -> list[ModelFile]:
        """The model files of rung ``name``, by preference. Raises :class:`InputError` for one that there is not."""
        for rung in self.ladder:
            if rung.name == name:
                return rung.models or self.models
        raise InputError("rung", found=repr(name)[:80], expected=", ".join(r.name for r in self.ladder) or "no ladder")

    def head(self, model: ModelFile) -> ModelFile:
        """The file of the first rung in whose space ``model``, of a lower rung, embeds; ``model`` itself without one.

        That of the same engine and precision, else the first of all.
        """
        if all(model.path != one.path for rung in self.ladder for one in rung.models):
            return model
        kind = (model.engine, model.precision)
        return next((one for one in self.models if (one.engine, one.precision) == kind), self.models[0])

    @property
    def needs_tokenizer(self) -> bool:
        """Whether any model file takes texts. A dual encoder whose text towers are all left out does not."""
        return self.task.task != "clip" or any("text" in model.towers for model in self.every_model)
