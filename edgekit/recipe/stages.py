"""The settings of each stage of the pipeline. Every default was chosen for an encoder of MiniLM's size."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from edgekit.recipe.training import LossWeights, PairLosses, Part, Training

STAGES = ("teach", "vocabulary", "distill", "prune", "qat", "export", "quantize")


def split_commas(value: Any) -> Any:
    """``"a, b"`` as ``["a", "b"]``, and ``16`` as ``[16]``: flags give lists this way."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if type(value) is int else value


class GateConfig(Part):
    """What a stage must show on the validation part to stay in the pipeline."""

    max_drop: float = Field(
        default=0.01,
        ge=0,
        le=2,
        description="Largest drop of the metric against the stage before, in metric units: 0.01 = 1 pp.",
    )
    max_cosine_drop: float = Field(
        default=0.02,
        ge=0,
        le=2,
        description="The same where embeddings have no scored pairs to be judged by: largest fall of the mean cosine "
        "to the teacher's embeddings.",
    )
    min_gain: float = Field(
        default=1.05,
        ge=0,
        le=1000,
        description="The stage must make the model at least this many times faster or smaller than the stage before, "
        "else it does not pay and is rolled back. 0 asks for nothing.",
    )
    min_speed: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Least speed against the stage before, measured in turns: 0.9 = at most 11 % more time. A smaller "
        "model that is slower than that is rolled back (quantize: engine by engine, tower by tower). 0 asks for "
        "nothing. null: 0.9 for INT8 (w8a8), but 0 where the budget bounds size or rss; 0 for all else.",
    )


class Stage(Part):
    """What every stage has. A gate that is given in part takes the rest from the stage's own default."""

    default_gate: ClassVar[dict[str, float]] = {}

    gate: GateConfig = Field(default_factory=GateConfig, description="What the stage must show to stay.")

    @model_validator(mode="before")
    @classmethod
    def _own_gate(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given = value.get("gate", {})
        return {**value, "gate": {**cls.default_gate, **given}} if isinstance(given, dict) else value


class Enabled(Stage):
    """A stage that can be left out."""

    enabled: bool = Field(default=True, description="False leaves the stage out.")


class TeachConfig(Training, Enabled):
    """Fine-tune the model that came in, where the task needs a head that it lacks."""

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 2.0, "min_gain": 0.0}  # nothing stands before it

    train: Literal["all", "heads"] = Field(
        default="all",
        description="Of a `new` dual encoder: both whole towers, or their projections alone, the towers locked (LiT).",
    )
    head_learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Peak learning rate of the new head.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each label's mass spread over all classes."
    )


class VocabularyConfig(Enabled):
    """Remove rows of the embedding table that the data's domain never needs; the tokenizer is rewritten to match."""

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 0.005}

    enabled: bool = Field(
        default=True, description="False leaves the stage out. Task clip: false where nothing is said."
    )
    min_count: int = Field(
        default=1, ge=1, description="Keep a piece that was seen at least this often in the training text."
    )
    max_size: int | None = Field(
        default=None,
        ge=64,
        description="Keep at most this many pieces, the most frequent first. Places that the training text leaves free "
        "go to the tokenizer's most frequent words; null keeps only what was seen.",
    )
    extra_text: list[str] = Field(
        default_factory=list, description="UTF-8 text files whose words must also be known after the cut."
    )


class DistillConfig(Training, Enabled):
    """Train a student with fewer layers to answer like the teacher."""

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 0.02, "max_cosine_drop": 0.2}

    epochs: int = Field(default=4, ge=1, le=1000, description="Passes over the training part.")
    min_steps: int = Field(
        default=1500, ge=1, le=10_000_000, description="At least this many optimiser steps, however small the data."
    )
    batch_size: int = Field(default=64, ge=1, le=65536, description="Texts in one batch, all processes together.")
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="Peak learning rate.")
    train: Literal["all", "text"] = Field(
        default="all",
        description="Of a dual encoder: both towers, or the text tower alone, on every caption; the image tower then "
        "stays as it starts, and least squares fit its projection to the teacher's embeddings.",
    )
    heads: bool = Field(
        default=False,
        description="With train `text`, last: both projections are trained by the losses that compare pictures with "
        "captions, the towers locked, for as long as stages.teach says, several times over, of which the mean is kept; "
        "undone where validation does not find more.",
    )
    temperature: float = Field(default=2.0, gt=0, le=100, description="Temperature T of the soft targets.")
    layer_drop: float = Field(
        default=0.0, ge=0, lt=1, description="Chance that a text skips a layer in a training step (LayerDrop)."
    )
    losses: LossWeights = Field(default_factory=LossWeights, description="Weights of the terms of the loss.")
    reinforced: str | None = Field(
        default=None,
        description="A folder that `edgekit reinforce` wrote of this training part (task clip): the student trains on "
        "its augmentations and its teachers' answers; null asks the teacher itself.",
    )
    pair_losses: PairLosses = Field(
        default_factory=PairLosses, description="Weights of the terms of the loss of a dual encoder (task clip)."
    )

    @model_validator(mode="after")
    def _heads_come_after_texts(self) -> DistillConfig:
        if self.heads and self.train != "text":
            raise ValueError("heads: true goes with train: text, and this one has train: all")
        return self


class RecoveryConfig(Training):
    """Training by distillation after a cut, to win back what it cost."""

    epochs: int = Field(
        default=1, ge=0, le=1000, description="Passes over the training part; 0 with min_steps 0: none."
    )
    min_steps: int = Field(default=300, ge=0, le=10_000_000, description="At least this many optimiser steps.")
    batch_size: int = Field(default=64, ge=1, le=65536, description="Texts in one batch, all processes together.")


class PruneConfig(Enabled):
    """Cut whole layers, attention heads and FFN neurons, so that the shapes really shrink."""

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 0.01, "max_cosine_drop": 0.1}

    layers: int = Field(
        default=0, ge=0, le=255, description="Whole layers to remove, those whose absence changes the answers least."
    )
    heads: float = Field(default=0.0, ge=0, lt=1, description="Share of the attention heads to remove.")
    ffn: float = Field(default=0.25, ge=0, lt=1, description="Share of the FFN neurons to remove.")
    importance: Literal["fisher", "gradient", "magnitude", "reconstruction"] = Field(
        default="fisher",
        description="What ranks them: Fisher (Kwon 2022), gradient (Michel 2019), or weight magnitude. reconstruction, "
        "of an image tower's hidden channels alone: least squares (He 2017); ffn is then the share of its work.",
    )
    importance_examples: int = Field(
        default=512, ge=1, description="Training texts that the importance is computed on."
    )
    recovery: RecoveryConfig = Field(default_factory=RecoveryConfig, description="Training after the cut.")
    pictures: str | None = Field(
        default=None,
        description="A folder of further pictures, without captions, that reconstruction and its recovery see.",
    )

    @model_validator(mode="after")
    def _channels_alone(self) -> PruneConfig:
        if self.importance == "reconstruction" and (self.layers or self.heads):
            raise ValueError("layers and heads of 0 with importance reconstruction, which is of hidden channels")
        if self.importance != "reconstruction" and self.pictures is not None:
            raise ValueError("pictures with importance reconstruction alone")
        return self


class QatConfig(Training, Enabled):
    """Quantization-aware training: the student learns with INT8 rounding in place, by distillation from the teacher.

    INT8 files for onnxruntime and OpenVINO are then static, with the ranges learned here and nothing kept in float; of
    image towers of convolutions (task clip) those for onnxruntime alone.
    """

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 0.01, "max_cosine_drop": 0.1, "min_gain": 0.0}

    enabled: bool = Field(default=False, description="True trains for INT8; for when quantize alone loses too much.")
    epochs: int = Field(default=1, ge=1, le=1000, description="Passes over the training part.")
    min_steps: int = Field(
        default=500, ge=1, le=10_000_000, description="At least this many optimiser steps, however small the data."
    )
    batch_size: int = Field(default=64, ge=1, le=65536, description="Texts in one batch, all processes together.")
    learning_rate: float = Field(default=5e-5, gt=0, le=1, description="Peak learning rate.")
    calibration_examples: int = Field(
        default=300, ge=1, description="Training texts that activation ranges start from."
    )


class TruncateConfig(Stage):
    """One rung of a ladder: first layers and their exit, or (task clip) an image tower cut by reconstruction."""

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 0.1, "max_cosine_drop": 0.3}

    importance_examples: int = Field(
        default=512, ge=1, description="Training pictures that reconstruction is worked out on (task clip)."
    )
    recovery: RecoveryConfig = Field(
        default_factory=RecoveryConfig,
        description="Training after the cut, after the whole image tower, block by block (task clip).",
    )
    pictures: str | None = Field(
        default=None, description="A folder of further pictures, without captions, that both see (task clip)."
    )


class ExportConfig(Stage):
    """Write ONNX and compare it with torch. This stage always runs: the bundle needs its file."""

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 0.001, "min_gain": 0.0}

    opset: int = Field(default=17, ge=13, le=21, description="ONNX opset, pinned so that old engines read the file.")
    max_abs: float = Field(default=1e-3, gt=0, description="Largest allowed absolute difference from torch's output.")
    min_cosine: float = Field(default=0.99999, gt=0, le=1, description="Smallest allowed cosine with torch's output.")


Candidate = Literal["nncf", "dynamic", "static", "neural-compressor"]
OpenVinoCandidate = Literal["nncf", "dynamic"]
LiteRtCandidate = Literal["dynamic", "static"]


TowerPrecision = Literal["fp32", "fp16", "w8a8", "w8a16"]


class TowersPrecision(Part):
    """Precisions of a dual encoder's towers, where they differ from their file's (task clip)."""

    image: TowerPrecision | None = Field(default=None, description="Of the image tower; null: the file's.")
    text: TowerPrecision | None = Field(default=None, description="Of the text tower; null: the file's.")

    @model_validator(mode="after")
    def _something_to_do(self) -> TowersPrecision:
        if self.image == self.text == "fp32":
            raise ValueError("one tower that is not fp32; `precision: fp32` makes a file of two that are")
        return self

    def of(self, tower: str, precision: str) -> str:
        """What ``tower`` is to be in a file of ``precision``."""
        stated: dict[str, str | None] = {"image": self.image, "text": self.text}
        return stated.get(tower) or precision


class QuantizeConfig(Enabled):
    """INT8. Candidates are tried, and the fastest one within the gate's max_drop wins."""

    default_gate: ClassVar[dict[str, float]] = {"max_drop": 0.01, "min_gain": 1.0}

    candidates: Annotated[list[Candidate], BeforeValidator(split_commas, json_schema_input_type=list[Candidate])] = (
        Field(
            default=["nncf", "dynamic", "static"],
            min_length=1,
            description="Quantizers to try: NNCF (transformer), onnxruntime dynamic, onnxruntime static; "
            "neural-compressor (its GPTQ rounds the weights; needs the extra of that name).",
        )
    )
    openvino_candidates: Annotated[
        list[OpenVinoCandidate], BeforeValidator(split_commas, json_schema_input_type=list[OpenVinoCandidate])
    ] = Field(
        default=["nncf", "dynamic"],
        min_length=1,
        description="The same for OpenVINO: NNCF (transformer), or INT8 weights with inputs rounded at run time.",
    )
    litert_candidates: Annotated[
        list[LiteRtCandidate], BeforeValidator(split_commas, json_schema_input_type=list[LiteRtCandidate])
    ] = Field(
        default=["dynamic"], min_length=1, description="The same for LiteRT: ranges taken at run time, or calibrated."
    )
    calibration_examples: int = Field(default=300, ge=1, description="Training texts that calibrate activation ranges.")
    float_layers: int | None = Field(
        default=None,
        ge=0,
        description="At most this many sensitive matrices stay in float; null: as many as the bound needs.",
    )
    embeddings_int8: bool = Field(default=True, description="Store the embedding table in INT8, one scale a row.")
    reduce_range: bool | Literal["auto"] = Field(
        default="auto",
        description="Weights of 7 bits in onnxruntime's INT8 files: on x86 without VNNI sums of full 8-bit products "
        'overflow. true: in every candidate; "auto": tried first where the machine that compresses lacks VNNI.',
    )

    towers: TowersPrecision = Field(
        default_factory=TowersPrecision,
        description="Precision of each tower of a dual encoder, where it differs from the file's.",
    )

    def tried(self, engine: str, precision: str) -> dict[str, list[str]]:
        """Precision -> names of the quantizers to try, of all that a file of ``precision`` is made of."""
        wanted = {self.towers.of(tower, precision) for tower in ("image", "text")} - {"fp32"}
        return {one: self.candidates_for(engine, one) for one in sorted(wanted)}

    def candidates_for(self, engine: str, precision: str) -> list[str]:
        """Names of the quantizers to try for a file of ``engine`` and ``precision``."""
        if precision == "fp16":
            return ["fp16"]
        if precision == "w8a16":
            if engine in ("openvino", "tflite-runtime"):
                return ["weight-only"]
            rounded = engine == "onnxruntime" and "neural-compressor" in self.candidates
            return ["static-a16", "weight-only", *(["neural-compressor-a16"] if rounded else [])]
        by_engine: dict[str, list[str]] = {
            "onnxruntime": list(self.candidates),
            "openvino": list(self.openvino_candidates),
            "tflite-runtime": ["static", "weight-only"],  # its dynamic INT8 is wrong without a word
        }
        return by_engine.get(engine, list(self.litert_candidates))


class StagesConfig(Part):
    """All stages, in the order in which they run."""

    teach: TeachConfig = Field(default_factory=TeachConfig, description="Fine-tune the teacher.")
    vocabulary: VocabularyConfig = Field(default_factory=VocabularyConfig, description="Cut the vocabulary.")
    distill: DistillConfig = Field(default_factory=DistillConfig, description="Train the student.")
    prune: PruneConfig = Field(default_factory=PruneConfig, description="Cut heads and neurons.")
    qat: QatConfig = Field(default_factory=QatConfig, description="Train under INT8 rounding.")
    truncate: TruncateConfig = Field(default_factory=TruncateConfig, description="Cut a ladder's lower rungs.")
    export: ExportConfig = Field(default_factory=ExportConfig, description="Write ONNX.")
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig, description="INT8.")
