"""New dual encoders by a recipe's words, and what their towers start from: other weights, or their teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from edgekit.distill.clip.config import DualConfig, EfficientNetConfig, NoTextConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.efficientnet import LITE0_PACKAGE, load_lite0
from edgekit.distill.clip.shapes import dual_config
from edgekit.distill.clip.text import BertTower
from edgekit.distill.clip.towers import ImageTower, TextTower
from edgekit.distill.clip_bpe import train_clip_bpe
from edgekit.distill.convert import import_model
from edgekit.distill.encoder import Encoder
from edgekit.distill.student import cut_layers, initial_layers
from edgekit.errors import ModelError, RecipeError
from edgekit.recipe.schema import TowersConfig


def new_teacher(towers: TowersConfig, captions: Sequence[str]) -> tuple[DualEncoder, Tokenizer]:
    """A model in the shape of ``towers`` with the weights that they name, and its tokenizer.

    The tokenizer is its BERT's, else one that learns from ``captions``. Raises ModelError, MissingDependencyError.
    """
    if towers.text == "bert":
        if towers.text_weights is None:
            raise RecipeError("teacher.text_weights", found="nothing", expected="a BERT, as teacher.text is bert")
        found = import_model(towers.text_weights, "embed", max_length=towers.context_length)
        text = BertTower.of(_shallower(found.encoder, towers.text_layers), towers.embed_dim)
        config = replace(dual_config(towers, 1), text=text.config)
        return DualEncoder(config, _image(towers, config), text), found.tokenizer
    tokenizer = train_clip_bpe(captions, towers.vocab_size)
    config = dual_config(towers, tokenizer.get_vocab_size())
    return DualEncoder(config, _image(towers, config)), tokenizer


def new_student(towers: TowersConfig | None, teacher: DualEncoder, vocab_size: int) -> DualEncoder:
    """A model in the shape of ``towers``, without them in its teacher's, that reads texts as ``teacher`` does.

    A tower of the teacher's kind whose tensors have the teacher's shapes starts from them; a BERT from layers spread
    over the teacher's. Raises RecipeError for a BERT where the teacher has none.
    """
    if towers is None:
        student = DualEncoder(teacher.config)
        student.load_state_dict(teacher.state_dict())
        return student
    config, text = dual_config(towers, vocab_size, like=teacher.config), None
    if towers.text == "bert":
        if not isinstance(teacher.text, BertTower):
            raise RecipeError(
                "student.towers.text", found="bert", expected=f"{teacher.config.text.kind}, its teacher's"
            )
        text = BertTower.of(_shallower(teacher.text.encoder, towers.text_layers), config.embed_dim)
        text.projection.load_state_dict(teacher.text.projection.state_dict())
        config = replace(config, text=text.config)
    student = DualEncoder(config, _image(towers, config), text)
    if not towers.image_weights:
        _inherit(student.image, teacher.image)
    if text is None:
        _inherit(student.text, teacher.text)
    student.load_state_dict({k: v for k, v in teacher.state_dict().items() if k.startswith("logit")}, strict=False)
    return student


def _image(towers: TowersConfig, config: DualConfig) -> ImageTower | None:
    """The image tower with the weights that ``towers`` name; None for fresh ones."""
    if towers.image_weights is None or not isinstance(config.image, EfficientNetConfig):
        return None
    if towers.image_weights == f"package:{LITE0_PACKAGE}":
        return load_lite0(embed_dim=config.embed_dim, image_size=towers.image_size)
    path = Path(towers.image_weights).expanduser()
    if not path.is_file():
        raise ModelError(
            f"image_weights {path}", found="no such file", expected=f"package:{LITE0_PACKAGE}, or its .pth"
        )
    return load_lite0(path, embed_dim=config.embed_dim, image_size=towers.image_size)


def _shallower(encoder: Encoder, layers: int) -> Encoder:
    """``encoder`` with at most ``layers`` of its layers, spread evenly."""
    if layers >= encoder.config.layers:
        return encoder
    return cut_layers(encoder, initial_layers(layers, encoder.config.layers, "spread"))


def _inherit(student: ImageTower | TextTower, teacher: ImageTower | TextTower) -> None:
    """Copy the teacher's tensors where both towers are of one kind and all that have the same name fit."""
    if type(student) is not type(teacher) or isinstance(student.config, NoTextConfig):
        return
    ours, theirs = student.state_dict(), teacher.state_dict()
    if ours.keys() == theirs.keys() and all(ours[name].shape == value.shape for name, value in theirs.items()):
        student.load_state_dict(theirs)
