"""The locked-image teacher and its student in one engine: R@1 both ways on the test photographs, and p50, side by side.

    python benchmarks/clip_locked.py [--output build/clip_locked]

Both are compressed by one recipe: the teacher without the stages that make it smaller, in fp32. Every file embeds the
same pictures and captions; files take turns when they are timed, a picture and a caption an inference, both ready.
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
from edgekit.evaluate import interleaved
from edgekit.evaluate.dual import recall
from edgekit.progress import Silent
from edgekit.recipe import load_recipe
from edgekit.runtimes import isa

RECIPE = Path(__file__).parent / "recipes" / "clip_locked.yaml"
TIMED, ROUNDS, WARMUP = 60, 10, 10
WAYS = ("text_to_image_r1", "image_to_text_r1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/clip_locked"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    alone = {"stages.distill.enabled": False, "stages.prune.enabled": False, "precision": ["fp32"]}
    models: dict[str, Any] = {}
    for name, changes in (("teacher", alone), ("student", {})):
        bundle = compress(load_recipe(args.recipe, changes), args.output / f"{name}.edge", overwrite=True).bundle
        for file in open_bundle(bundle).manifest.models:
            model = edgekit.load(bundle, file=file.path, engine=file.engine, threads=1)
            models[f"{name} {file.precision}"] = model
    recipe = load_recipe(args.recipe)
    test: Any = load_parts(recipe.data, recipe.task, recipe.seed, Silent()).test
    pictures = [test.pictures.open(row) for row in range(len(test))]
    ready = [models["teacher fp32"].prepare(example) for example in test.spread(TIMED)]
    sizes = {name: model.images.preprocessor.spec.size for name, model in models.items()}
    prepared = {name: [model.prepare(example) for example in test.spread(TIMED)] for name, model in models.items()}
    calls = {name: lambda row, m=model, p=prepared[name]: m.forward(p[row]) for name, model in models.items()}
    times = interleaved(calls, list(range(len(ready))), ROUNDS, WARMUP)
    p50 = {name: float(np.median(found)) for name, found in times.items()}
    scores = {}
    for name, model in models.items():
        images, texts = model.embed_images(pictures), model.embed_texts(test.captions)
        scores[name] = recall((images, texts), test)
    theirs = scores["teacher fp32"]
    print("On", isa.machine_name())
    for name, found in scores.items():
        ways = "; ".join(
            f"{way} {100 * found.details[way]:.1f} % ({found.details[way] / theirs.details[way]:.0%} of the teacher's)"
            for way in WAYS
        )
        print(
            f"{name:14} {sizes[name]} px: {ways}; mean {100 * found.value:.1f} % [{100 * found.low:.1f}, "
            f"{100 * found.high:.1f}] of {found.n}; p50 {p50[name]:.2f} ms, {p50[name] / p50['teacher fp32']:.3f} of it"
        )


if __name__ == "__main__":
    main()
