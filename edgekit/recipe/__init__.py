"""What to compress, on which data, within which budget."""

from __future__ import annotations

from edgekit.recipe.budget import Bound, Budget
from edgekit.recipe.load import load_recipe, presets
from edgekit.recipe.schema import DataConfig, Recipe, Source, Task, json_schema
from edgekit.recipe.stages import STAGES, DistillConfig, GateConfig, PruneConfig, QuantizeConfig, TeachConfig

__all__ = [
    "STAGES",
    "Bound",
    "Budget",
    "DataConfig",
    "DistillConfig",
    "GateConfig",
    "PruneConfig",
    "QuantizeConfig",
    "Recipe",
    "Source",
    "Task",
    "TeachConfig",
    "json_schema",
    "load_recipe",
    "presets",
]
