"""Labels as embeddings: templates, and the bank of them that replaces a text tower where the labels are fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.bundle.dual import PLACE, check_templates
from edgekit.errors import BundleError, InputError
from edgekit.runtimes import vectors
from edgekit.runtimes.vectors import Floats, unit

NAME = "prompts.safetensors"  # in a bundle or an artifact


@dataclass(frozen=True)
class PromptBank:
    """``embeddings``: float32 (n, D), unit length, one a name; ``templates``: what each name was put into.

    ``model``: the hash of the model that made it, "" where nobody stated it. Raises ``InputError`` for parts that do
    not fit each other.
    """

    names: list[str]
    embeddings: Floats
    templates: list[str] = field(default_factory=lambda: [PLACE])
    model: str = ""

    def __post_init__(self) -> None:
        check_labels(self.names, "prompt bank: names")
        check_templates(self.templates)
        rows = self.embeddings
        if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(self.names) or not rows.shape[1]:
            raise InputError(
                "prompt bank: embeddings",
                found=f"{rows.dtype} {rows.shape}",
                expected=f"float32 ({len(self.names)}, D), one a name",
            )
        if not np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3):
            raise InputError("prompt bank: embeddings", found="other lengths", expected="unit length")

    def rows(self, names: Sequence[str]) -> Floats | None:
        """float32 (len(names), D), in that order; None when a name is not in the bank."""
        places = {name: place for place, name in enumerate(self.names)}
        try:
            return self.embeddings[[places[name] for name in names]]
        except KeyError:
            return None

    def save(self, path: str | Path) -> None:
        """One safetensors file."""
        about = {"names": self.names, "templates": self.templates, "model": self.model}
        vectors.save(Path(path), {"embeddings": self.embeddings}, about)

    @classmethod
    def load(cls, path: str | Path) -> PromptBank:
        """What :meth:`save` wrote. Raises ``BundleError`` naming the file and what is wrong."""
        path = Path(path)
        tensors, about = vectors.load(path)
        model = about.get("model")
        if set(tensors) != {"embeddings"} or not isinstance(model, str):
            raise BundleError(path.name, found=sorted(tensors), expected="embeddings, and the model's hash")
        names = vectors.strings(about, "names", path.name)
        try:
            return cls(names, tensors["embeddings"], vectors.strings(about, "templates", path.name), model)
        except BundleError:
            raise
        except InputError as error:
            raise BundleError(f"{path.name}: {error.what}", found=error.found, expected=error.expected) from None


def make_bank(
    names: Sequence[str], templates: Sequence[str], embed: Callable[[list[str]], Floats], model: str = ""
) -> PromptBank:
    """The bank of ``names``: each is put into every template, embedded, normalised, averaged and normalised again.

    Radford et al. 2021, section 3.1.4. ``embed``: n texts to float (n, D). Raises ``InputError``, ``EngineError``.
    """
    check_labels(names, "labels")
    check_templates(templates)
    texts = [template.replace(PLACE, name) for name in names for template in templates]
    rows = unit(embed(texts), "text embeddings")
    means = rows.reshape(len(names), len(templates), -1).mean(1)
    return PromptBank(list(names), unit(means), list(templates), model)


def check_labels(names: Sequence[str], where: str) -> None:
    """Raises ``InputError`` unless ``names`` are texts, at least one and all different."""
    if not names:
        raise InputError(where, found="none", expected="at least one")
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            raise InputError(where, found=f"{type(name).__name__} {name!r:.40}", expected="texts")
        if name in seen:
            raise InputError(where, found=f"{name!r} twice", expected="each once")
        seen.add(name)
