"""The linear probe: the projection that ridge regression finds from a locked image tower onto a cached teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.distill.clip.dual import DualEncoder, normalise
from edgekit.distill.clip.heads import picture_features, projection
from edgekit.distill.clip.pairs import Pairs
from edgekit.progress import Progress

Floats = NDArray[np.float32]
PENALTIES = tuple(float(penalty) for penalty in np.geomspace(1e-4, 1e4, 33))  # that are tried: features differ in scale

AS_IT_IS = 1e12  # the penalty that leaves a projection so


def fit_probe(
    model: DualEncoder,
    train: Pairs,
    held: Pairs,
    targets: Floats,
    wanted: Floats,
    mirror: bool,
    progress: Progress,
    near: bool = False,
    centred: bool = False,
) -> dict[str, Any]:
    """Give the image tower of ``model`` the projection that takes ``train`` nearest to ``targets`` (P, D).

    Least squares with a penalty on large weights (Hoerl and Kennard 1970); of several penalties the one with the
    highest mean cosine between ``held`` and ``wanted``. ``mirror``: mirror images count as further pictures. ``near``:
    the penalty is on the distance from the projection that there is, whose scale is kept. ``centred``: cosines about
    the mean of ``wanted``, as the direction that all embeddings share hides what sets them apart. Returns the penalty
    and that cosine.
    """
    progress.say(f"linear probe: features of {len(train)} pictures")
    given, goal = picture_features(model, train, progress).double(), torch.from_numpy(targets).double()
    if mirror:
        given = torch.cat([given, picture_features(model, train, progress, mirrored=True).double()])
        goal = torch.cat([goal, goal])
    seen, right = picture_features(model, held, progress).double(), torch.from_numpy(wanted).double()
    start = projection(model.image).weight.detach().T.double() * float(near)
    if near:  # embeddings have no length of their own, so the one that they have here is kept
        goal = goal * (given @ start).norm(dim=1).mean() - given @ start
    square, product, unit = given.T @ given, given.T @ goal, torch.eye(given.shape[1], dtype=given.dtype)
    found: dict[float, tuple[float, torch.Tensor]] = {}
    for penalty in (*PENALTIES, AS_IT_IS) if near else PENALTIES:
        weights = start + torch.linalg.solve(square + penalty * unit, product)
        ours, theirs = normalise(seen @ weights), right
        if centred:
            ours, theirs = (normalise(one - right.mean(0)) for one in (ours, theirs))
        found[penalty] = float((ours * theirs).sum(1).mean()), weights
    best = max(found, key=lambda penalty: found[penalty][0])
    with torch.no_grad():
        projection(model.image).weight.copy_(found[best][1].T)
    progress.say(f"linear probe: penalty {best:.3g}, cosine {found[best][0]:.4f} on validation")
    return {"penalty": best, "validation_cosine": round(found[best][0], 6), "examples": len(train)}
