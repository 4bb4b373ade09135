"""How a model is trained, and for what: settings that several stages share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of a recipe: unknown keys are errors, numbers are finite, nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class Augment(Part):
    """How training pictures are varied (task clip). Off: captions may say left, right and where things are."""

    flip: float = Field(default=0.0, ge=0, le=1, description="Chance of a mirror image.")
    crop: float = Field(
        default=1.0, gt=0, le=1, description="Smallest share of the area that a random crop keeps; 1 keeps all."
    )


class Training(Part):
    """Settings of a training loop (AdamW, linear warm-up, linear decay, best model by validation kept)."""

    epochs: int = Field(default=3, ge=1, le=1000, description="Passes over the training part.")
    min_steps: int = Field(
        default=1000, ge=1, le=10_000_000, description="At least this many optimiser steps, however small the data."
    )
    batch_size: int = Field(default=32, ge=1, le=65536, description="Texts in one batch, all processes together.")
    accumulate: int = Field(default=1, ge=1, le=4096, description="Batches whose gradients make one optimiser step.")
    learning_rate: float = Field(default=1e-4, gt=0, le=1, description="Peak learning rate of the encoder.")
    warmup: float = Field(
        default=0.06, ge=0, lt=1, description="Share of the steps over which the learning rate rises."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW's weight decay; not on biases and norms.")
    patience: int = Field(
        default=2, ge=1, le=1000, description="Stop after this many evaluations without a better one."
    )
    max_examples: int | None = Field(
        default=None, ge=2, description="Train on this many texts, drawn once by the seed; null trains on all."
    )
    augment: Augment = Field(default_factory=Augment, description="How training pictures are varied (task clip).")


class LossWeights(Part):
    """Weights of the terms of the distillation loss; 0 leaves a term out."""

    soft: float = Field(
        default=1.0, ge=0, description="KL to the teacher's answers at the temperature, times T squared."
    )
    hard: float = Field(default=0.5, ge=0, description="Cross entropy with the labels.")
    hidden_cosine: float = Field(default=0.5, ge=0, description="1 - cosine of the last hidden states (DistilBERT).")
    relations: float = Field(default=0.0, ge=0, description="Q-Q, K-K and V-V relations of the last layer (MiniLMv2).")
    hidden_mse: float = Field(default=0.0, ge=0, description="MSE of hidden states, layer by layer (TinyBERT).")
    attention: float = Field(default=0.0, ge=0, description="MSE of attention scores, layer by layer (TinyBERT).")
    embedding_mse: float = Field(default=1.0, ge=0, description="MSE of sentence embeddings (task embed).")
    embedding_cosine: float = Field(default=1.0, ge=0, description="1 - cosine of sentence embeddings (task embed).")


class PairLosses(Part):
    """The same for dual encoders (task clip)."""

    contrastive: float = Field(default=0.25, ge=0, description="Pictures and captions of a batch, both ways (CLIP).")
    relational: float = Field(
        default=1.0, ge=0, description="KL of the similarity distributions from the teacher's (MobileCLIP)."
    )
    affinity: float = Field(default=0.0, ge=0, description="Cross-entropy of the same distributions (TinyCLIP).")
    feature_cosine: float = Field(default=1.0, ge=0, description="1 - cosine with the teacher's embeddings (CLIP-KD).")
    feature_mse: float = Field(default=0.0, ge=0, description="MSE of the embeddings as the towers give them.")
