"""Label texts with a bundle. Needs edgekit[onnxruntime] and nothing more: python examples/classify.py BUNDLE TEXT..."""

from __future__ import annotations

import sys

import edgekit


def main(bundle: str, texts: list[str]) -> None:
    """Print a label, its probability and the text, a line each."""
    model = edgekit.load(bundle, threads=1)
    answer = model.classify(texts)
    for text, label, score in zip(texts, answer.labels, answer.scores, strict=True):
        print(f"{label}\t{score:.3f}\t{text}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
