"""Before the first stage: the data, the cache and the model that comes in are there and can be used."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgekit.cache import cache_dir as default_cache
from edgekit.compress import ranks
from edgekit.compress.cache import StageCache
from edgekit.compress.stage import Context
from edgekit.data import load_parts
from edgekit.distill import families
from edgekit.distill.foreign import is_foreign_source
from edgekit.distill.source import read_config, resolve, sha256_file, weights_file
from edgekit.errors import MissingDependencyError
from edgekit.progress import Progress, Silent
from edgekit.recipe import Recipe
from edgekit.recipe.schema import NEW

# engine -> modules that making and judging its files takes
_NEEDED = {
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("openvino", "nncf"),
    "litert": ("ai_edge_litert", "litert_torch", "ai_edge_quantizer"),
    "tflite-runtime": ("ai_edge_litert", "litert_torch", "ai_edge_quantizer"),
}


def require_engines(recipe: Recipe) -> None:
    """Raises MissingDependencyError before any work when a library for an engine of the recipe is not installed."""
    for engine in recipe.engines:
        missing = [name for name in _NEEDED[engine] if find_spec(name) is None]
        if missing:
            others = [name for name in recipe.engines if name != engine]
            raise MissingDependencyError(
                f"engine {engine} of the recipe",
                found=f"no {', '.join(missing)}",
                expected="its libraries installed",
                fix="pip install 'edgekit[compress]'" + (f", or --engines {','.join(others)}." if others else "."),
            )


def require_exporter(recipe: Recipe) -> None:
    """Raises MissingDependencyError before any work when the recipe's model takes optimum and it is not installed."""
    if recipe.task == families.DUAL:
        return
    if is_foreign_source(recipe.model) and (find_spec("optimum") is None or find_spec("optimum.exporters") is None):
        raise MissingDependencyError(
            f"model {recipe.model} of type {read_config(resolve(recipe.model)).get('model_type')}",
            found="no optimum with exporters",
            expected="the extra optimum, through which all but BERT, DistilBERT and RoBERTa are exported",
            fix="pip install 'edgekit[optimum]'",
        )


def prepare(recipe: Recipe, cache: Path | None, progress: Progress) -> tuple[Context, StageCache, str]:
    """The context of a run, its cache, and the sha256 of the weights that come in.

    In a distributed run the first process reads the data before the others do, so that one alone downloads; the
    others are silent.
    """
    require_engines(recipe)
    require_exporter(recipe)
    listener = progress if ranks.is_first() else Silent()
    root = cache or default_cache()
    stages = StageCache(root)
    fingerprint = "" if recipe.model == NEW else sha256_file(weights_file(resolve(recipe.model)))
    if not ranks.is_first():
        ranks.wait()
    splits = load_parts(recipe.data, recipe.task, recipe.seed, listener)
    if ranks.is_first():
        ranks.wait()
    return Context(recipe, splits, root, listener), stages, fingerprint
