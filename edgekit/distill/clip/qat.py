"""Quantization-aware training of a dual encoder: its towers follow a teacher with INT8 rounding in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.data import PictureSplits, PictureTextSet
from edgekit.distill import ranges as ranges_file
from edgekit.distill.clip import rounding
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.folder import load, reader, save
from edgekit.distill.clip.pairs import Pairs, make_pairs
from edgekit.distill.clip.stages import follow
from edgekit.distill.ranges import Ranges
from edgekit.distill.settings import loop_config
from edgekit.progress import Progress
from edgekit.recipe import Recipe


def qat_dual(
    recipe: Recipe,
    splits: PictureSplits[PictureTextSet],
    source: Path,
    followed: Path,
    out: Path,
    work: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train the model in ``source`` under INT8 rounding and write it, in float, to ``out`` with its ranges.json.

    Branches are merged and BatchNorms folded first, as in its files; it follows the model in ``followed`` as after
    pruning. A tower that is not to be INT8 stays as it is. The best epoch is that of the rounded model. Names of ranges
    start with their tower's. Returns what training did.
    """
    settings = recipe.stages.qat
    model, tokenizer = load(source)
    model = model.merged()
    drawn = np.random.default_rng(recipe.seed).permutation(len(splits.train))[: settings.calibration_examples]
    pairs = make_pairs(splits.train.take(np.sort(drawn)), model.config, reader(tokenizer, model.config))
    torch.set_num_threads(loop_config(recipe, settings).threads)  # another number sums in another order
    progress.say(f"qat: ranges of activations on {len(pairs)} pictures and a caption of each")
    towers = [name for name in model.towers if recipe.stages.quantize.towers.of(name, "w8a8") == "w8a8"]
    rounded = {name: getattr(model, name) for name in ("image", "text")}
    for name in towers:
        ends = rounding.observe(rounded[name], _inputs(name, pairs))
        rounded[name] = rounding.insert(rounded[name], ends)
    student = _around(model, rounded)
    for name in set(model.towers) - set(towers):
        getattr(student, name).requires_grad_(False)
    report = follow(recipe, splits, student, followed, settings, work, "qat", progress)
    found: Ranges = {}
    for name in towers:
        rounded[name], ranges = rounding.remove(getattr(student, name))
        found |= {f"{name}.{module}": codes for module, codes in ranges.items()}
    save(_around(student, rounded), tokenizer, out)
    ranges_file.write(found, out)
    return {"towers": towers, "ranges": len(found), "calibration_pictures": len(pairs), **report}


def _inputs(name: str, pairs: Pairs) -> Iterator[tuple[Tensor, ...]]:
    """What tower ``name`` is given for each picture, or the first caption of each, at batch 1.

    So padding is seen by those towers alone that look at it.
    """
    for row in range(len(pairs)):
        if name == "image":
            yield (pairs.images(slice(row, row + 1)),)
            continue
        caption = int(np.searchsorted(pairs.picture_of, row))
        count = int(pairs.mask[caption].sum())
        yield tuple(torch.from_numpy(array[caption : caption + 1, :count]) for array in (pairs.ids, pairs.mask))


def _around(model: DualEncoder, towers: dict[str, Any]) -> DualEncoder:
    """The temperature and the bias of ``model`` with ``towers``."""
    made = DualEncoder(model.config, towers["image"], towers["text"])
    made.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith("logit")}, strict=False)
    return made
