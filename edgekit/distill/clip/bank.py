"""What a bundle of fixed labels holds: their embeddings beside the image tower, and no text tower where none is asked.

The embeddings are those of the fp32 text tower: it does not run on the device for them, so nothing is won by its INT8,
and an INT8 image tower was judged beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.data.embeddings import read_embeddings
from edgekit.errors import ModelError
from edgekit.progress import Progress, track
from edgekit.recipe.prompts import PromptsConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.prompts import NAME, PromptBank, make_bank
from edgekit.runtimes.vectors import Floats, unit

_SLICE = 256  # texts between two moves of the progress bar


def with_bank(prompts: PromptsConfig, made: Sequence[tuple[Path, Path]], work: Path, progress: Progress) -> list[Path]:
    """Copies in ``work`` of the artifacts ``made`` (each beside its engine's fp32), with the bank of ``prompts``.

    All have the same bank, of the recipe's file, else made by the first one's fp32 text tower; it names no model, as it
    serves several files. Raises ModelError where there is neither, DataError, InputError.
    """
    bank = bank_of(made[0][1], prompts, progress)
    folders = []
    for number, (folder, _) in enumerate(made):
        about, spec = artifact.read(folder), artifact.read_spec(folder)
        assert spec.similarity is not None, "task clip has one"
        out = work / str(number)
        kept = {name: one for name, one in about.towers.items() if name == "image" or not prompts.alone}
        for name in kept:
            shutil.copytree(folder / name, out / name)
        if "text" in kept:
            shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
        similarity = replace(spec.similarity, templates=list(prompts.templates))
        artifact.write(out, replace(spec, similarity=similarity), about.engine, about.precision, kept)
        bank.save(out / NAME)
        folders.append(out)
    return folders


def bank_of(folder: Path, prompts: PromptsConfig, progress: Progress) -> PromptBank:
    """The labels of ``prompts`` as its file has them, else as the text tower of the artifact in ``folder`` does."""
    if prompts.embeddings is not None:
        cached = read_embeddings(prompts.embeddings)
        labels = prompts.labels or cached.names
        return PromptBank(labels, unit(cached.of(labels), "embeddings of prompts"), list(prompts.templates))
    model = artifact.load(folder)
    if not isinstance(model, DualModel) or model.text is None:
        raise ModelError(str(folder), found="no text tower", expected="one, to embed the labels of `prompts`")

    def embed(texts: list[str]) -> Floats:
        starts = range(0, len(texts), _SLICE)
        parts = [model.embed_texts(texts[i : i + _SLICE]) for i in track(progress, "prompts", starts, len(starts))]
        return np.concatenate(parts)

    return make_bank(prompts.labels, prompts.templates, embed)
