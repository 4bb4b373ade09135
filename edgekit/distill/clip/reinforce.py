"""From teachers' names and a data set to a reinforced store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.data import PictureSplits, PictureTextSet, load_parts
from edgekit.data.captions import read_captions
from edgekit.data.reinforced import write_store
from edgekit.data.store import ReinforcedStore, ReinforceSettings
from edgekit.distill.clip.teachers import open_teacher
from edgekit.errors import DataError
from edgekit.progress import Progress, Silent
from edgekit.recipe import load_recipe, presets

_RECIPES = (".yaml", ".yml")


def reinforce(
    models: Sequence[str],
    data: str,
    out: Path,
    settings: ReinforceSettings,
    size: int | None = None,
    image: str | None = None,
    caption: str | None = None,
    progress: Progress = Silent(),
) -> ReinforcedStore:
    """What the teachers ``models`` give for ``data``, written to the folder ``out``; goes on with a stopped run.

    ``models``: see :func:`~edgekit.distill.clip.teachers.open_teacher`. ``data``: a recipe or a preset's name, whose
    training part is taken, or a table of pictures and captions, all of it (``image`` and ``caption`` name its columns).
    ``size``: pixels of an augmentation; None takes the largest that a teacher wants. Vasu et al. 2024, section 4.
    Raises DataError where ``out`` holds anything else, ModelError, RecipeError, MissingDependencyError.
    """
    given = training_part(data, image, caption, progress)
    teachers = []
    for ref in models:
        progress.say(f"reinforce: loading {ref}")
        teachers.append(open_teacher(ref))
    pixels = size or max((teacher.size for teacher in teachers), default=settings.size)
    return write_store(out, given, teachers, replace(settings, size=pixels), progress)


def training_part(
    data: str, image: str | None = None, caption: str | None = None, progress: Progress = Silent()
) -> PictureTextSet:
    """The pictures and captions of ``data``: a recipe's training part, or a whole table. Raises DataError."""
    if data not in presets() and not data.endswith(_RECIPES):
        return read_captions(data, image=image, caption=caption)
    recipe = load_recipe(data)
    splits = load_parts(recipe.data, recipe.task, recipe.seed, progress)
    if not isinstance(splits, PictureSplits) or not isinstance(splits.train, PictureTextSet):
        raise DataError(f"recipe {data}: task", found=recipe.task, expected="clip")
    return splits.train
