"""What ``edgekit run`` asks of a dual encoder: labels of pictures, entries of an index, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.cli.output import Column
from edgekit.errors import InputError
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.index import Index
from edgekit.runtimes.towers import digest_of

ZERO_SHOT = [
    Column("label", "label", right=False),
    Column("score", "score", "{:.4f}".format),
    Column("cosine", "cosine", "{:.4f}".format),
    Column("image", "image", right=False),
]
SEARCH = [
    Column("name", "name", right=False),
    Column("cosine", "cosine", "{:.4f}".format),
    Column("query", "query", right=False),
]


def file_of(bundle: Path, index: Index) -> str | None:
    """The model file of ``bundle`` that made ``index``; None for none of them, which the search will tell."""
    opened = open_bundle(bundle, check_hashes=False)
    made = [one.path for one in opened.manifest.models if one.towers and digest_of(opened, one) == index.model]
    return made[0] if made else None


def zero_shot(
    model: DualModel, images: Sequence[Path], labels: list[str] | None, templates: list[str] | None, top_k: int
) -> list[dict[str, Any]]:
    """image, label, score, cosine, top (``top_k`` of them) of each picture. ``labels`` None: those of the bank."""
    found = model.zero_shot(list(images), labels, templates, top_k)
    rows = []
    for image, best in zip(images, found, strict=True):
        top = [{"label": one.name, "score": one.score, "cosine": one.cosine} for one in best]
        rows.append({"image": str(image), **top[0], "top": top})
    return rows


def search(
    model: DualModel, index: Index, texts: Sequence[str], images: Sequence[Path], k: int
) -> list[dict[str, Any]]:
    """query, name, cosine, top (the ``k`` nearest entries) of each text and picture."""
    rows = []
    for query in (*texts, *images):
        hits = model.search(query, index, k)
        top = [{"name": hit.name, "place": hit.place, "cosine": hit.cosine} for hit in hits]
        if not top:
            raise InputError("index", found="no entries", expected="at least one", fix="Build it with edgekit index.")
        rows.append({"query": str(query), **top[0], "top": top})
    return rows


def embeddings(model: DualModel, texts: Sequence[str], images: Sequence[Path]) -> list[dict[str, Any]]:
    """text or image, and its embedding, unit length."""
    rows: list[dict[str, Any]] = []
    if texts:
        vectors = model.embed_texts(texts).tolist()
        rows += [{"text": text, "embedding": vector} for text, vector in zip(texts, vectors, strict=True)]
    if images:
        vectors = model.embed_images(list(images)).tolist()
        rows += [{"image": str(image), "embedding": vector} for image, vector in zip(images, vectors, strict=True)]
    return rows
