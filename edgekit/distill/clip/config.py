"""Shapes of towers and dual encoders: all that is needed to build them again, as frozen records that JSON can hold.

Every list has one entry a block, so a pruned tower is described as well as a whole one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from edgekit.errors import ModelError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # Radford et al. 2021, the published preprocessing
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
ACTIVATIONS = ("gelu", "quick_gelu", "gelu_pytorch_tanh", "relu")


@dataclass(frozen=True)
class MciConfig:
    """FastViT as MobileCLIP uses it (Vasu et al. 2024, section 4.1): widths and FFN channels of each stage."""

    embed_dim: int = 512
    image_size: int = 256
    widths: tuple[int, ...] = (64, 128, 256, 512)
    hidden: tuple[tuple[int, ...], ...] = ((192,) * 2, (384,) * 6, (768,) * 10, (1536,) * 2)
    attention: tuple[bool, ...] = (False, False, False, True)  # stages that mix tokens by attention, not RepMixer
    squeeze: tuple[bool, ...] = (False, False, True, True)  # stages whose patch embedding has squeeze-and-excite
    head_dim: int = 32
    expansion: int = 2  # of the last convolution, before pooling
    layer_scale: float = 1e-5  # what residual branches start with
    branches: bool = True  # False after `reparameterize`
    kind: str = "mci"

    def __post_init__(self) -> None:
        stages = len(self.widths)
        if not stages or {len(self.hidden), len(self.attention), len(self.squeeze)} != {stages}:
            raise ModelError(
                "hidden, attention, squeeze", found="other lengths", expected=f"{stages} stages, as widths"
            )
        if not all(self.hidden) or min(map(min, self.hidden)) < 1:
            raise ModelError("hidden", found=self.hidden, expected="at least one block a stage and one channel a block")


# hidden channels, kernel, stride, output channels of EfficientNet-Lite0's blocks
LITE0 = (
    *((32, 3, 1, 16), (96, 3, 2, 24), (144, 3, 1, 24), (144, 5, 2, 40), (240, 5, 1, 40), (240, 3, 2, 80)),
    *((480, 3, 1, 80), (480, 3, 1, 80), (480, 5, 1, 112), (672, 5, 1, 112), (672, 5, 1, 112), (672, 5, 2, 192)),
    *((1152, 5, 1, 192), (1152, 5, 1, 192), (1152, 5, 1, 192), (1152, 3, 1, 320)),
)


@dataclass(frozen=True)
class EfficientNetConfig:
    """EfficientNet-Lite (Tan and Le 2019; Lite: no squeeze-and-excite, ReLU6): stem, inverted bottlenecks, head.

    A block is (hidden channels, kernel, stride, output channels). The first block has no expansion: its hidden
    channels are the stem's.
    """

    embed_dim: int = 512
    image_size: int = 224
    blocks: tuple[tuple[int, int, int, int], ...] = LITE0
    features: int = 1280
    branches: bool = True  # False after `reparameterize`: no BatchNorm
    kind: str = "efficientnet"


@dataclass(frozen=True)
class VitConfig:
    """A vision transformer (Dosovitskiy et al. 2021) with CLIP's or SigLIP's ends."""

    embed_dim: int = 512
    image_size: int = 224
    patch: int = 16
    width: int = 384
    head_dim: int = 64
    heads: tuple[int, ...] = (6,) * 6
    ffn: tuple[int, ...] = (1536,) * 6
    activation: str = "gelu"
    eps: float = 1e-5
    pooling: str = "cls"  # cls; mean; attention (SigLIP: one learned query over all patches)
    pool_heads: int = 6  # of attention pooling
    pool_ffn: int = 1536
    pre_norm: bool = True  # a norm before the first layer, as CLIP has
    patch_bias: bool = False
    projection: bool = True  # without, the embedding is the pooled hidden state
    kind: str = "vit"

    def __post_init__(self) -> None:
        _one_of("pooling", self.pooling, ("cls", "mean", "attention"))
        _one_of("activation", self.activation, ACTIVATIONS)
        if len(self.heads) != len(self.ffn):
            raise ModelError(
                "heads, ffn", found=f"{len(self.heads)} and {len(self.ffn)}", expected="one number a layer"
            )
        if self.image_size < self.patch:
            raise ModelError("image_size", found=self.image_size, expected=f"at least the patch, {self.patch}")
        if not self.projection and self.embed_dim != self.width:
            raise ModelError("embed_dim", found=self.embed_dim, expected=f"the width {self.width}, without projection")


@dataclass(frozen=True)
class TextConfig:
    """A pre-norm transformer over token ids, as CLIP's, SigLIP's and MobileCLIP's text encoders are."""

    embed_dim: int = 512
    context_length: int = 77
    vocab_size: int = 49408
    width: int = 512
    head_dim: int = 64
    heads: tuple[int, ...] = (8,) * 12
    ffn: tuple[int, ...] = (2048,) * 12
    activation: str = "quick_gelu"
    eps: float = 1e-5
    causal: bool = True
    pooling: str = "eot"  # eot: at the first `eos_id`; last: at the last position
    eos_id: int | None = None  # None: the highest id of each text, which CLIP's end-of-text is
    repmixer: int = 0  # kernel of the two RepMixer blocks around the layers; 0: none. MobileCLIP's mct has 11
    mixer_hidden: tuple[int, int] = (2048, 2048)
    layer_scale: float = 1e-5
    projection_bias: bool = False
    branches: bool = True  # False after `reparameterize`; means nothing without RepMixer blocks
    kind: str = "transformer"
    pad_id: int | None = None  # what fills a row behind the end token; None: the end token itself

    def __post_init__(self) -> None:
        _one_of("pooling", self.pooling, ("eot", "last"))
        _one_of("activation", self.activation, ACTIVATIONS)
        if len(self.heads) != len(self.ffn):
            raise ModelError(
                "heads, ffn", found=f"{len(self.heads)} and {len(self.ffn)}", expected="one number a layer"
            )

    @property
    def fixed_length(self) -> bool:
        """Whether texts must be padded to ``context_length``, because padding takes part in the answer."""
        return not self.causal or self.pooling == "last"


@dataclass(frozen=True)
class BertConfig:
    """edgekit's own BERT encoder with a linear projection; ``encoder`` holds the arguments of EncoderConfig."""

    embed_dim: int = 512
    context_length: int = 128
    encoder: dict[str, Any] = field(default_factory=dict)
    kind: str = "bert"

    @property
    def fixed_length(self) -> bool:
        """False: the attention mask keeps padding out."""
        return False


@dataclass(frozen=True)
class NoTextConfig:
    """No text tower: pictures alone, told apart by embeddings of texts that come from elsewhere."""

    embed_dim: int = 512
    context_length: int = 77  # of the tokenizer that nothing reads with
    kind: str = "none"

    @property
    def fixed_length(self) -> bool:
        """False: nothing is padded."""
        return False


ImageConfig = MciConfig | EfficientNetConfig | VitConfig
TextTowerConfig = TextConfig | BertConfig | NoTextConfig
_IMAGE: dict[str, type] = {"mci": MciConfig, "efficientnet": EfficientNetConfig, "vit": VitConfig}
_TEXT: dict[str, type] = {"transformer": TextConfig, "bert": BertConfig, "none": NoTextConfig}


@dataclass(frozen=True)
class DualConfig:
    """Both towers, what pictures must look like, and how similarities become logits.

    A pixel in 0..1 becomes (pixel - mean) / std. ``resize``: "crop" brings the shorter side to the image size and
    takes the centre; "squash" brings both sides to it. ``interpolation``: "bicubic" or "bilinear".
    """

    image: ImageConfig = field(default_factory=MciConfig)
    text: TextTowerConfig = field(default_factory=TextConfig)
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    interpolation: str = "bicubic"
    resize: str = "crop"
    logit_bias: bool = False  # SigLIP's; its temperature then starts at 10 and its bias at -10

    def __post_init__(self) -> None:
        _one_of("interpolation", self.interpolation, ("bicubic", "bilinear"))
        _one_of("resize", self.resize, ("crop", "squash"))
        if self.image.embed_dim != self.text.embed_dim:
            raise ModelError(
                "text.embed_dim", found=self.text.embed_dim, expected=f"image.embed_dim, {self.image.embed_dim}"
            )

    @property
    def embed_dim(self) -> int:
        """Length of the embeddings of both towers."""
        return self.image.embed_dim

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict` reads, in JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> DualConfig:
        """The config that ``raw`` describes. Raises ModelError that names the wrong field."""
        if not isinstance(raw, dict):
            raise ModelError("dual encoder config", found=type(raw).__name__, expected="an object")
        rest = dict(raw)
        image = _read("image", rest.pop("image", None), _IMAGE)
        text = _read("text", rest.pop("text", None), _TEXT)
        return _make(cls, "config", {**rest, "image": image, "text": text})


def _read(name: str, raw: Any, kinds: dict[str, type]) -> Any:
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind not in kinds:
        raise ModelError(f"{name}.kind", found=repr(kind), expected=" or ".join(kinds))
    return _make(kinds[kind], name, raw)


def _make(cls: type, name: str, raw: dict[str, Any]) -> Any:
    """``cls`` from JSON's types, each value checked against the type of the field's default."""
    known, default = {f.name for f in fields(cls)}, cls()
    if set(raw) - known:
        raise ModelError(f"{name}.{sorted(set(raw) - known)[0]}", found="an unknown field", expected="one of a config")
    values = {key: _tuples(value) if key != "encoder" else value for key, value in raw.items()}
    for key, value in values.items():
        wanted = getattr(default, key)
        if key in ("image", "text"):
            continue
        if not _fits(value, wanted) and not (key in ("eos_id", "pad_id") and (value is None or type(value) is int)):
            raise ModelError(f"{name}.{key}", found=repr(value)[:80], expected=f"something like {wanted!r}"[:120])
    return cls(**values)


def _fits(value: Any, like: Any) -> bool:
    if isinstance(like, tuple):
        return isinstance(value, tuple) and all(_fits(v, like[0]) for v in value)
    if isinstance(like, float):
        return type(value) in (int, float)
    return type(value) is type(like)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ModelError(name, found=repr(value), expected=" or ".join(choices))
