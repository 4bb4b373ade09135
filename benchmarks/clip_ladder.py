"""A ladder of image towers: python benchmarks/clip_ladder.py [RECIPE] [--output build/clip_ladder] [--set KEY=VALUE]

RECIPE is of task clip and names a ladder. First the bundle's own figures of each rung: retrieval on the test part
against latency of a picture and a caption. Then what a stream of pictures meets, each rung's first file in onnxruntime,
one thread, all in turns: a picture alone to its embedding, how near that is to the first rung's of the same picture,
and how often it finds that picture in an index that the first rung made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import open_bundle
from edgekit.cli.progress import Shown
from edgekit.compress import compress
from edgekit.compress.prepare import prepare
from edgekit.data import PictureTextSet
from edgekit.evaluate import interleaved, percentiles
from edgekit.progress import Progress
from edgekit.recipe import load_recipe
from edgekit.report.ladder import ladder_rows
from edgekit.report.markdown import table
from edgekit.runtimes import isa
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.load import load

PICTURES, ROUNDS, WARMUP = 60, 10, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="benchmarks/recipes/ladder_clip.yaml")
    parser.add_argument("--output", type=Path, default=Path("build/clip_ladder"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the recipe")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe, dict(one.split("=", 1) for one in args.set))
    with Shown() as progress:
        bundle = compress(recipe, args.output / "ladder.edge", overwrite=True, progress=progress).bundle
        rungs = [rung.to_dict() for rung in open_bundle(bundle).manifest.ladder]
        print("On", isa.machine_name())
        _print(ladder_rows(rungs))
        if rungs:
            test = prepare(recipe, None, progress)[0].splits.test
            assert isinstance(test, PictureTextSet)
            _print(_as_a_stream(bundle, [str(rung["name"]) for rung in rungs], test, progress))


def _as_a_stream(bundle: Path, names: list[str], test: PictureTextSet, progress: Progress) -> list[dict[str, str]]:
    models: dict[str, DualModel] = {}
    for name in names:
        found = load(bundle, threads=1, engine="onnxruntime", rung=name)
        assert isinstance(found, DualModel)
        models[name] = found
    pictures = [test.pictures.open(row) for row in range(len(test))]
    shown = [pictures[i] for i in np.linspace(0, len(pictures) - 1, PICTURES).astype(int)]
    times = interleaved({n: m.embed_images for n, m in models.items()}, shown, ROUNDS, WARMUP, progress)
    index = models[names[0]].embed_images(pictures)
    p50 = {name: float(percentiles(samples)["p50_ms"]) for name, samples in times.items()}
    rows = []
    for name, model in models.items():
        own = model.embed_images(pictures)
        itself = (own @ index.T).argmax(1) == np.arange(len(own))
        rows.append(
            {
                "rung": name,
                "file": model.file,
                "p50, a picture": f"{p50[name]:.2f} ms",
                "share of the first": f"{p50[name] / p50[names[0]]:.2f}",
                "cosine with the first": f"{float((own * index).sum(1).mean()):.4f}",
                "finds its picture": f"{100 * itself.mean():.1f} %",
            }
        )
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    """As a Markdown table; of no rows, that there are none."""
    told = table(list(rows[0]), (list(row.values()) for row in rows)) if rows else "no ladder: one rung stayed"
    print(told, flush=True)


if __name__ == "__main__":
    main()
