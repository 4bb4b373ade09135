"""INT8 of a text tower with its causal mask: python benchmarks/text_int8.py BUNDLE [--texts 1000]

For each engine in BUNDLE (a dual encoder with fp32 and w8a8 files) the cosine of INT8 embeddings with fp32 ones of the
same engine, over captions of the rendered test part: mean and least, as they are and about the mean embedding (a part
that all share hides what was lost). Then the mask: words put behind the end token must change nothing.
"""

from __future__ import annotations

import argparse

import numpy as np

import edgekit
from edgekit.bundle import open_bundle
from edgekit.data.rendered import RenderedConfig, load_rendered
from edgekit.evaluate.outputs import cosines
from edgekit.runtimes import isa
from edgekit.runtimes.dual import DualModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--texts", type=int, default=1000)
    args = parser.parse_args()
    captions = load_rendered(RenderedConfig(2000, validation=2, test=args.texts, seed=2)).test.captions[: args.texts]
    models = open_bundle(args.bundle).manifest.models
    embedded = {
        (one.engine, one.precision): edgekit.load(args.bundle, file=one.path, engine=one.engine).embed_texts(captions)
        for one in models
    }
    print("On", isa.machine_name())
    for one in models:
        if one.precision == "fp32" or (one.engine, "fp32") not in embedded:
            continue
        plain, rounded = embedded[one.engine, "fp32"].astype(float), embedded[one.engine, one.precision].astype(float)
        mean = plain.mean(axis=0)
        each, centred = cosines(plain, rounded), cosines(plain - mean, rounded - mean)
        tower = one.tower("text")
        model = edgekit.load(args.bundle, file=one.path, engine=one.engine)
        ids, mask = model.text.tokenizer(captions[:50])
        behind = ids.copy()
        behind[mask == 0] = ids[0, 1]
        causal = float(np.abs(_rows(model, ids, mask) - _rows(model, behind, mask)).max())
        named = f"{one.engine:12} text tower {tower.precision if tower else one.precision}"
        told = (
            f"cosine {each.mean():.4f}, least {each.min():.4f}; centred {centred.mean():.4f}, least {centred.min():.4f}"
        )
        print(f"{named}: {told}; words behind the end change {causal:.1e}")


def _rows(model: DualModel, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.concatenate([model.text.forward(ids[i : i + 1], mask[i : i + 1]) for i in range(len(ids))])


if __name__ == "__main__":
    main()
