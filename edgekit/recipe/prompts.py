"""Fixed labels whose embeddings go into the bundle (task clip)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from edgekit.bundle.dual import check_templates
from edgekit.errors import InputError
from edgekit.recipe.stages import split_commas
from edgekit.recipe.training import Part
from edgekit.runtimes.prompts import check_labels


class PromptsConfig(Part):
    """Labels that pictures are held against without a text tower."""

    labels: Annotated[list[str], BeforeValidator(split_commas, json_schema_input_type=list[str])] = Field(
        default_factory=list,
        description="What pictures may show. Each is put into every template, embedded when the bundle is made, and "
        "packed. Empty takes all names of `embeddings`.",
    )
    embeddings: str | None = Field(
        default=None,
        description="Embeddings of the labels by their names that were computed elsewhere, npz, npy or safetensors: "
        "packed as they are, brought to unit length, in place of what a text tower would say.",
    )
    templates: list[str] = Field(
        default=["a photo of a {}."], min_length=1, description="Texts with {} for the label; their mean is taken."
    )
    text_tower: Literal["keep", "leave_out"] = Field(
        default="keep", description="leave_out: the bundle knows these labels and templates and no other text."
    )

    @model_validator(mode="after")
    def _usable(self) -> PromptsConfig:
        try:
            if self.labels or self.embeddings is None:
                check_labels(self.labels, "labels")
            check_templates(self.templates)
        except InputError as error:
            raise ValueError(f"{error.what}: {error.expected}, not {error.found}") from error
        return self

    @property
    def alone(self) -> bool:
        """Whether the text tower is left out."""
        return self.text_tower == "leave_out"
