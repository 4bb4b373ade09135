"""The cached teacher's image tower, whole and pruned by reconstruction: zero-shot on imagenette and p50, side by side.

    python benchmarks/clip_pruned.py [--data ../shared/data/image_text] [--output build/clip_pruned]

Both are compressed by one recipe, one of them without its stage `prune`; prompts are those that the whole tower's fp32
file chooses on imagenette's training pictures (`clip_cached.py`). Files of one engine take turns when they are timed:
the tower alone, on pictures that are ready for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from clip_cached import asked, choose, pictures, zero_shot

import edgekit
from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.evaluate import interleaved
from edgekit.evaluate.intervals import bootstrap
from edgekit.recipe import load_recipe
from edgekit.runtimes import isa

RECIPE = Path(__file__).parent / "recipes" / "clip_pruned.yaml"
TIMED, ROUNDS, WARMUP = 60, 10, 10


def main() -> None:
    args, texts, bank = asked(__doc__, Path("build/clip_pruned"), RECIPE)
    models: dict[str, Any] = {}
    for name, prune in (("whole", False), ("pruned", True)):
        changes = {"prompts.embeddings": str(bank.resolve()), "stages.prune.enabled": str(prune).lower()}
        bundle = compress(load_recipe(args.recipe, changes), args.output / f"{name}.edge", overwrite=True).bundle
        for file in open_bundle(bundle).manifest.models:
            model = edgekit.load(bundle, file=file.path, engine=file.engine, threads=1)
            models[f"{name} {file.precision}"] = model
    training, trained = pictures(args.data / "imagenette" / "train")
    images, labels = pictures(args.data / "imagenette" / "val")
    chosen = choose(models["whole fp32"].embed_images(training), trained, texts)
    ready = [models["whole fp32"].prepare((image, None)) for image in images[:TIMED]]
    times = interleaved({name: model.forward for name, model in models.items()}, ready, ROUNDS, WARMUP)
    p50 = {name: float(np.median(found)) for name, found in times.items()}
    found = {name: zero_shot(model, images, labels, chosen) for name, model in models.items()}
    print("On", isa.machine_name())
    print(f"prompts: {', '.join(chosen)}")
    for name, row in found.items():
        before = f"whole {name.split()[1]}"
        lost = found[before]["hits"].astype(float) - row["hits"]
        low, high = bootstrap(len(lost), lambda draw, lost=lost: lost[draw].mean(axis=1))  # type: ignore[misc]
        share, least, most = (100 * row[key] for key in ("zero_shot", "low", "high"))
        print(
            f"{name:12} {share:.2f} % [{least:.2f}, {most:.2f}] of {row['n']}; against {before}: "
            f"{-100 * lost.mean():+.2f} points [{-100 * high:.2f}, {-100 * low:.2f}], "
            f"p50 {p50[name]:.2f} ms, {100 * (1 - p50[name] / p50[before]):.1f} % lower"
        )


if __name__ == "__main__":
    main()
