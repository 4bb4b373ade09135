"""The rendered default's student, whole and with half of its image blocks gone: R@1, zero-shot and p50, side by side.

    python benchmarks/clip_pruned_rendered.py [--output build/clip_pruned_rendered] [--set KEY=VALUE]

Nothing is fetched: `edgekit compress clip` as it is, and without its stage `prune`, onnxruntime alone. R@1 on the 1,000
test pictures; zero-shot on 4,800 pictures of the pairs of shape and colour that no part of the data names, among 120
classes. Files take turns when they are timed: the image tower alone, on pictures that are ready for it, one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.data import load_parts
from edgekit.data.rendered import CLASS_TEMPLATES, RenderedConfig, load_rendered
from edgekit.evaluate import interleaved
from edgekit.evaluate.dual import answered, recall
from edgekit.evaluate.intervals import bootstrap
from edgekit.progress import Silent
from edgekit.recipe import load_recipe
from edgekit.runtimes import isa

ZERO_SHOT, TIMED, ROUNDS, WARMUP = 4800, 60, 20, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/clip_pruned_rendered"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the recipe")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    common = {"engines": "[onnxruntime]", "precision": "[fp32, w8a8]", **dict(one.split("=", 1) for one in args.set)}
    models: dict[str, Any] = {}
    for name, prune in (("whole", "false"), ("pruned", "true")):
        recipe = load_recipe("clip", {"stages.prune.enabled": prune, **common})
        bundle = compress(recipe, args.output / f"{name}.edge", overwrite=True).bundle
        for file in open_bundle(bundle).manifest.models:
            models[f"{name} {file.precision}"] = edgekit.load(bundle, file=file.path, engine=file.engine, threads=1)
    test: Any = load_parts(recipe.data, recipe.task, recipe.seed, Silent()).test
    shown = load_rendered(RenderedConfig(zero_shot=ZERO_SHOT)).zero_shot
    assert shown is not None
    whole = models["whole fp32"]
    ready = [whole.prepare((test.pictures.open(row), None)) for row in range(TIMED)]
    times = interleaved({name: model.forward for name, model in models.items()}, ready, ROUNDS, WARMUP)
    found = {name: _answers(model, test, shown) for name, model in models.items()}
    print("On", isa.machine_name())
    for name, (score, hits) in found.items():
        before, precision = found[f"whole {name.split()[1]}"], name.split()[1]
        lost = before[1].astype(float) - hits
        low, high = bootstrap(len(lost), lambda draw, lost=lost: lost[draw].mean(axis=1))  # type: ignore[misc]
        p50 = float(np.median(times[name]))
        print(
            f"{name:12} R@1 {100 * score.value:.1f} % [{100 * score.low:.1f}, {100 * score.high:.1f}], "
            f"{100 * (score.value - before[0].value):+.1f} points; zero-shot {100 * hits.mean():.2f} %, "
            f"{-100 * lost.mean():+.2f} points [{-100 * high:.2f}, {-100 * low:.2f}]; "
            f"p50 {p50:.3f} ms, {100 * (1 - p50 / float(np.median(times[f'whole {precision}']))):.1f} % lower"
        )


def _answers(model: Any, test: Any, shown: Any) -> tuple[Any, Any]:
    """R@1 on ``test``, and which of ``shown`` find their class."""
    pictures = [test.pictures.open(row) for row in range(len(test))]
    score = recall(answered(model.embed_images(pictures), model.embed_texts(test.captions), test), test)
    asked = model.zero_shot(
        [shown.pictures.open(row) for row in range(len(shown))], shown.names, templates=CLASS_TEMPLATES, top_k=1
    )
    return score, np.argmax(asked.cosines, axis=1) == shown.labels


if __name__ == "__main__":
    main()
