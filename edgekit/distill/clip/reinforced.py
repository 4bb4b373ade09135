"""Training on a reinforced store: the augmentation is redone from its seed, the teachers' answers are read from disk.

Vasu et al. 2024, "MobileCLIP", section 4 (dataset reinforcement).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.data import PictureTextSet
from edgekit.data.augment import augment
from edgekit.data.store import ReinforcedStore
from edgekit.distill.clip.config import DualConfig
from edgekit.distill.clip.objective import Taught
from edgekit.distill.clip.pairs import PairBatch, Pairs, read_texts
from edgekit.errors import DataError
from edgekit.runtimes.context import ClipTokenizer


class ReinforcedPairs:
    """A set whose pictures come as augmentations that ``store`` has answers for, one drawn anew in each epoch.

    ``rows``: the place in the store of each picture of ``data``; None: they are the store's, in its order. Pictures are
    opened as they are needed and augmented at the size of ``config``'s image tower. Example numbers hold caption and
    augmentation. Raises DataError where the store has another number of pictures.
    """

    def __init__(
        self,
        data: PictureTextSet,
        store: ReinforcedStore,
        config: DualConfig,
        tokenizer: ClipTokenizer,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.data, self.store, self.size = data, store, config.image.image_size
        self.rows = store_rows(data, store, rows)
        none = np.empty((len(data), 0, 0, 3), np.uint8)  # pictures are not held
        ids, mask = read_texts(data, config, tokenizer)
        self._pairs = Pairs(none, ids, mask, data.picture_of, config.mean, config.std)

    def __len__(self) -> int:
        """Pictures: what an epoch passes over."""
        return len(self.data)

    def epoch(self, size: int, seed: int, number: int, rank: int = 0, ranks: int = 1) -> list[NDArray[np.int64]]:
        """As :meth:`Pairs.epoch`, with an augmentation drawn for each picture."""
        count = self.store.augmentations
        drawn = np.random.default_rng([seed, number, 1]).integers(0, count, len(self))
        batches = self._pairs.epoch(size, seed, number, rank, ranks)
        return [captions * count + drawn[self.data.picture_of[captions]] for captions in batches]

    def collate(self, index: NDArray[np.int64]) -> PairBatch:
        """The examples at ``index``, their pictures augmented."""
        captions, which = np.divmod(index, self.store.augmentations)
        batch = self._pairs.collate(captions)
        seeds, _ = self.store.examples(self.rows[batch.pictures].tolist(), which.tolist())
        settings = self.store.settings.augment
        made = [
            augment(self.data.pictures.open(int(row)), int(seed), self.size, settings)
            for row, seed in zip(batch.pictures, seeds, strict=True)
        ]
        return batch._replace(pixels=self._pairs.scaled(np.stack(made)), augmentations=which)


class StoreTargets:
    """What the store's teachers said of a batch of :class:`ReinforcedPairs`. ``rows`` as there."""

    def __init__(self, data: PictureTextSet, store: ReinforcedStore, rows: NDArray[np.int64] | None = None) -> None:
        self.store, self.rows = store, store_rows(data, store, rows)
        self._first = np.searchsorted(data.picture_of, np.arange(len(data)))  # each picture's first caption

    def of(self, batch: PairBatch) -> list[Taught]:
        """One a teacher, read from the memory-mapped shards."""
        assert batch.augmentations is not None, "a batch of ReinforcedPairs"
        rows = self.rows[batch.pictures].tolist()
        _, images = self.store.examples(rows, batch.augmentations.tolist())
        numbers = batch.captions - self._first[batch.pictures]
        said = [self.store.captions(row) for row in rows]
        found = []
        for k, teacher in enumerate(self.store.teachers):
            texts = np.stack([one[k][number] for one, number in zip(said, numbers, strict=True)])
            found.append(Taught(torch.from_numpy(images[k]), torch.from_numpy(texts), teacher.scale))
        return found


def store_rows(
    data: PictureTextSet, store: ReinforcedStore, rows: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """``rows``, or all of the store's. Raises DataError for pictures that it does not have."""
    found = np.arange(len(data)) if rows is None else np.asarray(rows, np.int64)
    if len(found) != len(data) or (rows is None and len(data) != len(store)) or found.max(initial=0) >= len(store):
        raise DataError(
            f"reinforced set {store.folder}",
            found=f"{len(store)} pictures",
            expected=f"the {len(data)} of the training part",
            fix="Reinforce this data set, into a folder of its own.",
        )
    return found
