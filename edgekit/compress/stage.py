"""What a stage is: a pure function of a folder, the data and its part of the recipe, with a gate that it must pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.compress.device import Device
from edgekit.data import AnySplits
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.recipe.stages import GateConfig


@dataclass
class Context:
    """What the stages of one run share. The folders are filled as the stages that make them end."""

    recipe: Recipe
    splits: AnySplits
    cache: Path
    progress: Progress
    teacher: Path | None = None  # the folder of the teacher, what agreement is measured with
    followed: Path | None = None  # the model that students learn from: the teacher, its vocabulary perhaps cut
    torch: Path | None = None  # the last torch model that stayed: what every engine's file is made from
    kept: dict[str, Path] = field(default_factory=dict)  # stage -> folder of those that stayed
    missed: dict[str, tuple[Path, str]] = field(default_factory=dict)  # stage -> folder and reason of the others
    answers: dict[Path, Any] = field(default_factory=dict)  # folder -> its answers to the held-out parts, asked once
    device: Device | None = None  # what engines' files are timed on, besides this machine


@dataclass(frozen=True)
class Work:
    """One run of a stage: the model it starts from (None for the first), where its result and its scraps go."""

    context: Context
    source: Path | None
    out: Path
    scratch: Path


@dataclass(frozen=True)
class Stage:
    """``run`` writes a model to ``work.out`` and returns facts for the report.

    ``part`` is all of the recipe that the result depends on; ``code`` the packages that make it. Both go into the
    cache key. A ``required`` stage cannot be rolled back: without it there is no bundle. A ``shared`` stage is run by
    every process of a distributed run, the others by the first alone.
    ``start``: None goes on from the last torch model and makes the next one; "" makes an engine's file from it; a
    stage's name starts from the result of that stage, and is not run where that one did not stay.
    ``beside``: a stage whose result it also reads, where that one stayed.
    """

    name: str
    what: str
    run: Callable[[Work], dict[str, Any]]
    part: dict[str, Any]
    code: tuple[str, ...]
    gate: GateConfig
    required: bool = False
    shared: bool = False
    start: str | None = None
    beside: str = ""
