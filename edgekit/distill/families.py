"""Which code trains, cuts and recovers which kind of model: the one place where a task meets its model's parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.data import AnySplits, PictureSplits, Splits
from edgekit.distill import foreign
from edgekit.errors import RecipeError
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.recipe.schema import NEW

DUAL = "clip"  # the task of dual encoders


def left_out(recipe: Recipe) -> list[str]:
    """The stages of ``recipe`` that its kind of model cannot go through; [] for our own encoders.

    Raises RecipeError for one that the recipe asks for by ``enabled: true``, ModelError as resolve does.
    """
    if recipe.task != DUAL:
        return foreign.left_out(recipe)
    stages = recipe.stages
    if stages.vocabulary.enabled and recipe.model == NEW and recipe.teacher.text == "none":
        raise RecipeError(
            "stages.vocabulary.enabled", found="true, with teacher.text none", expected="a text tower to cut"
        )
    if stages.qat.enabled and "w8a8" not in {stages.quantize.towers.of(name, "w8a8") for name in ("image", "text")}:
        raise RecipeError(
            "stages.qat.enabled", found="true, with towers of other precisions", expected="a tower that is w8a8"
        )
    return []


def teach(recipe: Recipe, splits: AnySplits, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Write the teacher to ``out``; ``work`` keeps checkpoints. Returns what was done, as all functions here."""
    if isinstance(splits, PictureSplits):
        from edgekit.distill.clip import stages

        return stages.teach(recipe, splits, out, work, progress)
    if foreign.is_foreign_source(recipe.model):
        return foreign.teach(recipe, splits.names, out)
    from edgekit.distill.teach import teach as teach_text

    return teach_text(recipe, splits, out, work, progress)


def vocabulary(recipe: Recipe, splits: AnySplits, source: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Cut the embedding table of the model in ``source`` to the pieces of the domain."""
    if isinstance(splits, PictureSplits):
        from edgekit.distill.clip.vocabulary import shrink_dual

        return shrink_dual(recipe, splits, source, out, progress)
    from edgekit.distill.vocabulary import shrink_vocabulary

    return shrink_vocabulary(recipe, _texts(splits), source, out, progress)


def distil(
    recipe: Recipe, splits: AnySplits, source: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Train a student of the model in ``source``."""
    if isinstance(splits, PictureSplits):
        from edgekit.distill.clip import stages

        return stages.distil(recipe, splits, source, out, work, progress)
    from edgekit.distill.student import distil as distil_text

    return distil_text(recipe, splits, source, out, work, progress)


def prune(
    recipe: Recipe, splits: AnySplits, source: Path, followed: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Cut the model in ``source`` and win back what that cost by following the one in ``followed``."""
    if isinstance(splits, PictureSplits):
        from edgekit.distill.clip import stages

        return stages.prune(recipe, splits, source, followed, out, work, progress)
    from edgekit.distill.prune import prune as prune_text

    return prune_text(recipe, splits, source, followed, out, work, progress)


def qat(
    recipe: Recipe, splits: AnySplits, source: Path, followed: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Train the model in ``source`` under INT8 rounding, following the one in ``followed``."""
    if isinstance(splits, PictureSplits):
        from edgekit.distill.clip.qat import qat_dual

        return qat_dual(recipe, splits, source, followed, out, work, progress)
    from edgekit.distill.qat import qat as qat_text

    return qat_text(recipe, _texts(splits), source, followed, out, work, progress)


def truncate(
    recipe: Recipe, splits: AnySplits, depth: int, source: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Cut a ladder's rung ``depth``, of the recipe's ``ladder``, out of the student in ``source``."""
    if isinstance(splits, PictureSplits):
        from edgekit.distill.clip import stages

        return stages.truncate(recipe, splits, depth, source, out, work, progress)
    from edgekit.distill.student import truncate as truncate_text

    return truncate_text(recipe, depth, source, out)


def rung_size(recipe: Recipe, depth: int) -> dict[str, int]:
    """What ``depth``, of the recipe's ``ladder``, counts: the field of a RungRecord that states it."""
    return {"channels": depth} if recipe.task == DUAL else {"layers": depth}


def to_pack(recipe: Recipe, made: Sequence[tuple[Path, Path]], work: Path, progress: Progress) -> list[Path]:
    """The artifacts that go into the bundle, in the order of ``made``: (what passed, its engine's fp32).

    ``work``: an empty folder for those that are not packed as they were judged.
    """
    if recipe.prompts is None:
        return [folder for folder, _ in made]
    from edgekit.distill.clip.bank import with_bank

    return with_bank(recipe.prompts, made, work, progress)


def asked(recipe: Recipe, examples: list[Any]) -> list[Any]:
    """What one inference each of the packed model is given, of ``examples`` of the data."""
    if recipe.prompts is None or not recipe.prompts.alone:
        return examples
    return [(picture, None) for picture, _ in examples]


def asked_note(recipe: Recipe) -> str:
    """What of an example :func:`asked` leaves out, in words; "" for nothing."""
    return "pictures alone, without the text tower" if recipe.prompts is not None and recipe.prompts.alone else ""


def _texts(splits: AnySplits) -> Splits:
    assert isinstance(splits, Splits), "left_out keeps other sets away"
    return splits
