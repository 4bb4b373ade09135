"""The word table of a dual encoder's text tower cut to what its captions use, and the tokenizer rewritten to match.

The rules are those of texts (:mod:`edgekit.distill.vocabulary`). What stays beside the captions' pieces: those of the
recipe's prompts, the end token that pooling looks for, and the padding that a tower may look at.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgekit.bundle.dual import PLACE
from edgekit.data import PictureSplits, PictureTextSet
from edgekit.distill.clip.config import DualConfig, TextConfig
from edgekit.distill.clip.cut import cut_vocabulary
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.folder import load, reader, save
from edgekit.distill.clip.text import BertTower, NoText, TextTransformer
from edgekit.distill.vocabulary import count_pieces, cut_rows, extra_texts, restrict, unchanged
from edgekit.errors import ModelError
from edgekit.progress import Progress
from edgekit.recipe import Recipe


def shrink_dual(
    recipe: Recipe, splits: PictureSplits[PictureTextSet], source: Path, out: Path, progress: Progress
) -> dict[str, Any]:
    """Write the model in ``source`` without the pieces that no training caption uses. Returns what was kept.

    Captions of kept pieces are embedded as before. Raises ModelError for a model without a text tower.
    """
    config = recipe.stages.vocabulary
    model, tokenizer = load(source)
    tower = model.text
    if isinstance(tower, NoText):
        raise ModelError(str(source), found="no text tower", expected="one, to cut its vocabulary", fix="Leave it out.")
    texts = [*splits.train.captions, *extra_texts(config.extra_text)]
    counts = count_pieces(tokenizer, texts, progress)
    needed = {i for encoding in tokenizer.encode_batch(prompted(recipe)) for i in encoding.ids}
    small, keep = restrict(
        tokenizer, counts, config.min_count, config.max_size, needed | _never_cut(tokenizer, model.config)
    )
    cut = shrink_bert(tower, keep) if isinstance(tower, BertTower) else cut_vocabulary(tower, keep)
    after = DualEncoder(model.config, model.image, cut)
    after.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith("logit")}, strict=False)
    save(after, small, out)
    return {
        "pieces_before": _rows(tower),
        "pieces_after": len(keep),
        "min_count": config.min_count,
        "counted_texts": len(texts),
        "text_parameters_before": sum(p.numel() for p in tower.parameters()),
        "text_parameters_after": sum(p.numel() for p in cut.parameters()),
        "validation_texts_tokenized_as_before": unchanged(tokenizer, small, keep, list(splits.validation.captions)),
    }


def prompted(recipe: Recipe) -> list[str]:
    """Every label of the recipe's prompts in every template."""
    prompts = recipe.prompts
    return [] if prompts is None else [t.replace(PLACE, label) for label in prompts.labels for t in prompts.templates]


def shrink_bert(tower: BertTower, keep: list[int]) -> BertTower:
    """``tower`` with the rows ``keep`` of its word table, in that order; in evaluation mode."""
    encoder = cut_rows(tower.encoder, keep)
    words = {"vocab_size": len(keep), "pad_token_id": encoder.config.pad_token_id}
    small = BertTower(replace(tower.config, encoder={**tower.config.encoder, **words}), encoder)
    small.projection.load_state_dict(tower.projection.state_dict())
    return small.eval()


def _never_cut(tokenizer: Tokenizer, config: DualConfig) -> set[int]:
    """Ids that mean something to the tower or its reader: the end of a text and the padding behind it."""
    read = reader(tokenizer, config)
    text = config.text
    eos = text.eos_id if isinstance(text, TextConfig) else None
    return {read.end_id, read.pad_id} | (set() if eos is None else {eos})


def _rows(tower: TextTransformer | BertTower) -> int:
    return tower.encoder.config.vocab_size if isinstance(tower, BertTower) else tower.config.vocab_size
