"""What a manifest holds, as frozen records. docs/bundle.md is the specification."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from edgekit.bundle.decode import decode
from edgekit.errors import InputError

SCHEMA_VERSION = 1

# How the windows of a text that is longer than max_length become one answer; the words are the identifiers.
AGGREGATION = {
    "classify": "mean of the windows' logits weighted by their tokens",
    "embed": "mean of the windows' embeddings weighted by their tokens",
    "tag": "each token from the window where it is farthest from an edge",
}


class Record:
    """Shared by all records: plain JSON out, checked JSON in."""

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and lists, ready for ``json.dumps``."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, value: object, where: str = "manifest.json") -> Any:
        """The record in ``value``; unknown keys are ignored, a wrong type raises ``BundleError`` naming the field."""
        return decode(cls, value, where)


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
    """

    path: str
    engine: str
    precision: str
    inputs: list[str] = field(default_factory=lambda: ["input_ids", "attention_mask"])
    output: str = "logits"
    parts: list[str] = field(default_factory=list)
    failed: str = ""


@dataclass(frozen=True)
class TaskSpec(Record):
    """What the model answers and how text becomes tokens.

    ``max_length``: tokens a window, special tokens included; ``stride``: tokens that neighbouring windows share.
    ``aggregation``: one of :data:`AGGREGATION`, filled in when empty. Raises :class:`InputError` for values that cannot
    be meant.
    """

    task: str
    labels: list[str]
    max_length: int
    stride: int
    pad_id: int = 0
    normalize: bool = False
    aggregation: str = ""

    def __post_init__(self) -> None:
        if self.task not in AGGREGATION:
            raise InputError("task", found=repr(self.task), expected=", ".join(AGGREGATION))
        if not self.aggregation:
            object.__setattr__(self, "aggregation", AGGREGATION[self.task])
        if self.aggregation != AGGREGATION[self.task]:
            raise InputError("aggregation", found=repr(self.aggregation), expected=repr(AGGREGATION[self.task]))
        if self.task != "embed" and not self.labels:
            raise InputError("labels", found="none", expected=f"one name a class for task {self.task}")
        if not 4 <= self.max_length <= 1 << 20:
            raise InputError("max_length", found=self.max_length, expected="4 to 1048576 tokens")
        if not 0 <= self.stride <= self.max_length // 2:
            raise InputError("stride", found=self.stride, expected=f"0 to {self.max_length // 2} tokens")
        if not 0 <= self.pad_id < 1 << 31:
            raise InputError("pad_id", found=self.pad_id, expected="a token id")


@dataclass(frozen=True)
class Manifest(Record):
    """manifest.json. ``files`` is filled by :func:`edgekit.bundle.write`; the other fields by the pipeline."""

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

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("models", found="none", expected="at least one model file")
