"""An index of embeddings: exact cosine search in numpy, over float32 or int8 rows, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekit.errors import BundleError, InputError
from edgekit.runtimes import vectors
from edgekit.runtimes.vectors import Floats, unit

PRECISIONS: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "int8": np.dtype(np.int8)}
KINDS = ("image", "text")
SCHEMA_VERSION = 1
_BLOCK = 8192  # int8 rows that are widened to float32 at once
_SCORES = 1 << 24  # scores in memory at once


class Hit(NamedTuple):
    """An entry of an index: its name, its place, and its cosine with the query."""

    name: str
    place: int
    cosine: float


class Index:
    """``names`` and their embeddings (n, D), unit length. ``model``: the hash of the model that makes them.

    ``kind``: what was embedded, "image" or "text". ``precision``: "float32", or "int8" with one scale a row, a quarter
    of the size; :func:`recall` says what that costs. ``stamps``: a word a row by which :mod:`index_build` knows that a
    file has changed. Search gives the same answer whatever was searched for beside it; equal cosines go by place.
    """

    def __init__(self, dim: int, model: str, kind: str = "image", precision: str = "float32") -> None:
        if dim < 1:
            raise InputError("dim", found=dim, expected="1 or more")
        if kind not in KINDS:
            raise InputError("kind", found=repr(kind), expected=", ".join(KINDS))
        if precision not in PRECISIONS:
            raise InputError("precision", found=repr(precision), expected=", ".join(PRECISIONS))
        self.dim, self.model, self.kind, self.precision = dim, model, kind, precision
        self.names: list[str] = []
        self.stamps: list[str] = []
        self._rows: npt.NDArray[Any] = np.empty((0, dim), PRECISIONS[precision])  # with room to grow
        self._scales: Floats = np.empty(0, np.float32)  # of int8 rows

    def __len__(self) -> int:
        return len(self.names)

    def add(self, names: Sequence[str], embeddings: Floats, stamps: Sequence[str] | None = None) -> None:
        """Append (n, D) ``embeddings``; normalised here. Names may repeat. Raises ``InputError``, ``EngineError``."""
        found = np.asarray(embeddings)
        if found.ndim != 2 or found.shape != (len(names), self.dim) or found.dtype.kind != "f":
            raise InputError(
                "embeddings", found=f"{found.dtype} {found.shape}", expected=f"float32 ({len(names)}, {self.dim})"
            )
        if stamps is not None and len(stamps) != len(names):
            raise InputError("stamps", found=len(stamps), expected=f"{len(names)}, one a name")
        rows = unit(found)
        start, end = len(self), len(self) + len(names)
        if end > len(self._rows):
            room = max(end, 2 * len(self._rows), 64)
            self._rows = _grown(self._rows, start, room)
            self._scales = _grown(self._scales, start, room)
        if self.precision == "int8":
            self._rows[start:end], self._scales[start:end] = _quantize(rows)
        else:
            self._rows[start:end] = rows
        self.names += names
        self.stamps += stamps if stamps is not None else [""] * len(names)

    def embeddings(self, places: Sequence[int] | npt.NDArray[np.intp] | slice = slice(None)) -> Floats:
        """float32 (n, D) of all rows or of those at ``places``; int8 rows as they are stored, so nearly unit length."""
        rows = self._rows[: len(self)][places]
        if self.precision == "float32":
            return rows.copy()  # type: ignore[no-any-return]
        return rows * self._scales[: len(self)][places, None]  # type: ignore[no-any-return]

    def search(self, queries: Floats, k: int = 10) -> list[list[Hit]]:
        """The ``k`` nearest of each row of ``queries``, float (q, D), best first. Raises ``InputError``."""
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.dim or queries.dtype.kind != "f":
            raise InputError("queries", found=f"{queries.dtype} {queries.shape}", expected=f"float32 (q, {self.dim})")
        if k < 1:
            raise InputError("k", found=k, expected="1 or more")
        queries = unit(queries, "queries")
        found: list[list[Hit]] = []
        step = max(1, _SCORES // max(1, len(self)))
        for start in range(0, len(queries), step):
            part = queries[start : start + step]
            found += [self._best(query, row, k) for query, row in zip(part, self._scores(part), strict=True)]
        return found

    def check_model(self, model: str) -> None:
        """Raises ``InputError`` unless ``model`` is the hash of the model that made this index."""
        if model != self.model:
            raise InputError(
                "index",
                found=f"one made by model {self.model[:12] or 'without a hash'}",
                expected=f"{model[:12] or 'without a hash'}, the model that asks",
                fix="Build the index anew with this model.",
            )

    def to_int8(self) -> Index:
        """A copy with int8 rows."""
        small = Index(self.dim, self.model, self.kind, "int8")
        small.add(self.names, self.embeddings(), self.stamps)
        return small

    def keep(self, places: Sequence[int]) -> None:
        """Drop all rows but those at ``places``, which stay in that order."""
        chosen = list(places)
        self._rows, self._scales = self._rows[chosen], self._scales[chosen]
        self.names = [self.names[place] for place in chosen]
        self.stamps = [self.stamps[place] for place in chosen]

    def _scores(self, queries: Floats) -> Floats:
        """float32 (q, n), exact to a few units in the last place."""
        rows = self._rows[: len(self)]
        if self.precision == "float32":
            return queries @ rows.T  # type: ignore[no-any-return]
        scores = np.empty((len(queries), len(rows)), np.float32)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores[:, block] = (queries @ rows[block].astype(np.float32).T) * self._scales[: len(self)][block]
        return scores

    def _best(self, query: Floats, scores: Floats, k: int) -> list[Hit]:
        """Of those that may be among the best by ``scores``, the best by sums that do not depend on a row's place.

        A matrix product rounds equal rows differently, by where they lie and by how many queries there are.
        """
        if len(scores) > k:
            # float32 dot products of unit vectors err by at most D times half of epsilon each (Higham 2002, 3.1).
            margin = np.float32(2 * (self.dim + 4) * np.finfo(np.float32).eps)
            least = np.partition(scores, len(scores) - k)[len(scores) - k] - margin
            places = np.flatnonzero(scores >= least)
        else:
            places = np.arange(len(scores))
        exact = np.empty(len(places))
        for start in range(0, len(places), _BLOCK):
            block = slice(start, start + _BLOCK)
            exact[block] = (self.embeddings(places[block]).astype(np.float64) * query).sum(1)
        order = np.lexsort((places, -exact))[:k]
        return [Hit(self.names[places[i]], int(places[i]), float(exact[i])) for i in order]

    def save(self, path: str | Path) -> None:
        """One safetensors file (below 1 GiB). Raises ``InputError``."""
        tensors = {"rows": self._rows[: len(self)]}
        if self.precision == "int8":
            tensors["scales"] = self._scales[: len(self)]
        about = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "kind": self.kind,
            "names": self.names,
            "stamps": self.stamps,
        }
        vectors.save(Path(path), tensors, about)

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """What :meth:`save` wrote. Raises ``BundleError`` naming the file and what is wrong."""
        path = Path(path)
        tensors, about = vectors.load(path)
        if about.get("schema_version") != SCHEMA_VERSION:
            raise BundleError(
                f"{path.name}: schema_version", found=repr(about.get("schema_version"))[:60], expected=SCHEMA_VERSION
            )
        rows, scales = tensors.get("rows"), tensors.get("scales")
        precision = next((name for name, dtype in PRECISIONS.items() if rows is not None and rows.dtype == dtype), "")
        if rows is None or not precision or rows.ndim != 2:
            raise BundleError(f"{path.name}: rows", found="no such tensor", expected="float32 or int8 (n, D)")
        if precision == "int8" and (scales is None or scales.dtype != np.float32 or scales.shape != (len(rows),)):
            raise BundleError(f"{path.name}: scales", found="no such tensor", expected=f"float32 ({len(rows)},)")
        model, kind = about.get("model"), about.get("kind")
        if not isinstance(model, str) or kind not in KINDS:
            raise BundleError(
                f"{path.name}: model, kind", found=repr((model, kind))[:60], expected="a hash, image or text"
            )
        try:
            index = cls(rows.shape[1], model, kind, precision)
        except InputError as error:
            raise BundleError(f"{path.name}: {error.what}", found=error.found, expected=error.expected) from None
        index.names = vectors.strings(about, "names", path.name, len(rows))
        index.stamps = vectors.strings(about, "stamps", path.name, len(rows))
        index._rows = rows
        index._scales = np.zeros(len(rows), np.float32) if scales is None else scales
        values, largest = (rows, 1.0) if precision == "float32" else (index._scales, 1 / 127)
        if len(rows) and not -1.001 * largest <= values.min() <= values.max() <= 1.001 * largest:  # false for NaN
            raise BundleError(f"{path.name}: rows", found=f"values up to {values.max()}", expected="unit length")
        return index


def recall(exact: Index, other: Index, queries: Floats, k: int = 10) -> float:
    """The share of the ``k`` nearest in ``exact`` that ``other`` gives too, mean over ``queries`` (q, D).

    Both hold the same entries in the same order. Raises ``InputError``.
    """
    if exact.names != other.names or not len(exact) or not len(queries):
        raise InputError("recall", found="indexes of other entries, or none", expected="the same entries, and queries")
    right = exact.search(queries, k)
    found = other.search(queries, k)
    shares = [
        len({hit.place for hit in a} & {hit.place for hit in b}) / len(a) for a, b in zip(right, found, strict=True)
    ]
    return float(np.mean(shares))


def _grown(array: npt.NDArray[Any], used: int, room: int) -> npt.NDArray[Any]:
    grown = np.zeros((room, *array.shape[1:]), array.dtype)
    grown[:used] = array[:used]
    return grown


def _quantize(rows: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """int8 (n, D) and float32 (n,): rows = int8 * scale, to half a step; a row of zeros has scale 0."""
    scales = (np.abs(rows).max(1, initial=0) / 127).astype(np.float32)
    return np.rint(rows / np.maximum(scales, 1e-30)[:, None]).astype(np.int8), scales
