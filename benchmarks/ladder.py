"""A ladder beside students of its depths trained alone: python benchmarks/ladder.py [RECIPE] [--output build/ladder]

RECIPE names a ladder; all else of it (data, teacher, epochs) holds for both sides. First the bundle: accuracy against
latency of each rung, as its manifest states them. Then, in torch, each rung beside a student of that depth that was
trained for that depth alone: both on the test part, the difference paired, with its 95 % interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.cli.progress import Shown
from edgekit.compress import compress
from edgekit.compress.gate import Gate
from edgekit.compress.pipeline import run_stages
from edgekit.compress.prepare import prepare
from edgekit.compress.stage import Context
from edgekit.compress.stages import rung_stage, stages_of
from edgekit.evaluate import Score, paired_drop
from edgekit.progress import Progress
from edgekit.recipe import Recipe, load_recipe
from edgekit.report.ladder import ladder_rows
from edgekit.report.markdown import table
from edgekit.runtimes import isa

WITHIN = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="benchmarks/recipes/ladder_sst2.yaml")
    parser.add_argument("--output", type=Path, default=Path("build/ladder"))
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    with Shown() as progress:
        bundle = compress(recipe, args.output / "ladder.edge", overwrite=True, progress=progress).bundle
        print("On", isa.machine_name())
        rows = ladder_rows([rung.to_dict() for rung in open_bundle(bundle).manifest.ladder])
        print(table(list(rows[0]), (list(row.values()) for row in rows)), flush=True)
        cache = prepare(recipe, None, progress)[1]
        ladder, keys = _torch(recipe, progress)
        beside = []
        for depth in recipe.ladder:
            alone, more = _torch(load_recipe(args.recipe, _alone(depth)), progress)
            keys += more
            beside.append(_beside(depth, ladder, ladder.kept[rung_stage(depth)], alone, alone.kept["distill"]))
        print(table(list(beside[0]), (list(row.values()) for row in beside)), flush=True)
        cache.sweep(keys)  # the teacher's answers, which all students learn from


def _alone(depth: int) -> dict[str, Any]:
    """The same recipe for one student of ``depth``, which stays whatever it loses."""
    gate = {"stages.distill.gate.max_drop": 1.0, "stages.distill.gate.min_gain": 0.0}
    return {"ladder": [], "student.layers": depth, **gate}


def _torch(recipe: Recipe, progress: Progress) -> tuple[Context, list[str]]:
    """The torch models of ``recipe``, without what is made for engines, and the keys of their stages."""
    context, cache, fingerprint = prepare(recipe, None, progress)
    made = ("teach", "vocabulary", "distill", "prune", *map(rung_stage, recipe.ladder))
    outcome = run_stages(context, [stage for stage in stages_of(recipe) if stage.name in made], cache, fingerprint)
    return context, outcome.keys


def _beside(depth: int, ladder: Context, rung: Path, alone: Context, student: Path) -> dict[str, str]:
    """One line: both accuracies on the test part and what the ladder costs."""
    ours, theirs = Gate(ladder), Gate(alone)
    both = ours.answers(rung).test, theirs.answers(student).test
    test = ladder.splits.test
    scores = ours.scored(both[0], test, test=True), theirs.scored(both[1], test, test=True)
    drop = paired_drop(ladder.recipe.task, both[1], both[0], test)
    return {
        "layers": str(depth),
        "in the ladder": _told(scores[0]),
        "alone": _told(scores[1]),
        "difference, points [95 %]": f"{-100 * drop.value:+.2f} [{-100 * drop.high:+.2f}, {-100 * drop.low:+.2f}]",
        f"within {100 * WITHIN:g} point": "yes" if drop.value <= WITHIN else "no",
    }


def _told(score: Score) -> str:
    return f"{100 * score.value:.2f} % [{100 * score.low:.2f}, {100 * score.high:.2f}]"


if __name__ == "__main__":
    main()
