"""Before the first stage: the data, the cache and the model that comes in are there and can be used."""

from __future__ import annotations

from pathlib import Path

from edgekit.cache import cache_dir as default_cache
from edgekit.compress import ranks
from edgekit.compress.cache import StageCache
from edgekit.compress.stage import Context
from edgekit.data import load_splits
from edgekit.distill.source import resolve, sha256_file, weights_file
from edgekit.progress import Progress, Silent
from edgekit.recipe import Recipe


def prepare(recipe: Recipe, cache: Path | None, progress: Progress) -> tuple[Context, StageCache, str]:
    """The context of a run, its cache, and the sha256 of the weights that come in.

    In a distributed run the first process reads the data before the others do, so that one alone downloads; the
    others are silent.
    """
    listener = progress if ranks.is_first() else Silent()
    root = cache or default_cache()
    stages = StageCache(root)
    fingerprint = sha256_file(weights_file(resolve(recipe.model)))
    if not ranks.is_first():
        ranks.wait()
    splits = load_splits(recipe.data, recipe.task, recipe.seed, listener)
    if ranks.is_first():
        ranks.wait()
    return Context(recipe, splits, root, listener), stages, fingerprint
