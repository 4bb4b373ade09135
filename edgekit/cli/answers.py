"""A model's answers as rows that can be printed."""

from __future__ import annotations

from typing import Any

from edgekit.runtimes.model import Model


def rows(model: Model, texts: list[str], top_k: int) -> list[dict[str, Any]]:
    """classify: text, label, score, top (``top_k`` labels with scores). tag: text, tags. embed: text, embedding."""
    if not texts:
        return []
    if model.spec.task == "classify":
        best = model.classify(texts).top(top_k)
        return [
            {
                "text": text,
                "label": top[0][0],
                "score": top[0][1],
                "top": [{"label": label, "score": score} for label, score in top],
            }
            for text, top in zip(texts, best, strict=True)
        ]
    if model.spec.task == "tag":
        found = model.tag(texts)
        return [
            {"text": text, "tags": [tag._asdict() for tag in tags]} for text, tags in zip(texts, found, strict=True)
        ]
    vectors = model.embed(texts).tolist()
    return [{"text": text, "embedding": vector} for text, vector in zip(texts, vectors, strict=True)]
