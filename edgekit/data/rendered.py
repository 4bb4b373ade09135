"""The built-in picture set: scenes of shapes, drawn by code when they are asked for, with captions.

Nothing is fetched and nothing is stored: scene, captions and pixels follow from the seed, the part and the row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.data import scenes
from edgekit.data.drawing import BACKGROUNDS, COLOURS, SHAPES, Placed, Rgb, draw
from edgekit.data.draws import Draws
from edgekit.data.pictures import PictureSet, PictureSplits, PictureTextSet, Rows, fingerprint
from edgekit.data.scenes import PLACES, SIZES, TEXTURES, Scene, Thing
from edgekit.errors import DataError

NAME = "rendered"
VERSION = 1  # raise it when the same seed gives other pictures or captions
CLASS_TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "an image of {}")
_TRIES = 50  # draws in vain, for each scene or caption asked for, before no more are looked for


@dataclass(frozen=True)
class RenderedConfig:
    """Pictures of each part, their side in pixels, captions a picture, and the seed of it all."""

    train: int = 20_000
    validation: int = 500
    test: int = 1_000
    zero_shot: int = 480
    size: int = 64
    captions: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("train", 1),
            ("validation", 1),
            ("test", 1),
            ("zero_shot", 1),
            ("size", 16),
            ("captions", 1),
        ):
            if getattr(self, name) < least:
                raise DataError(f"rendered pictures: {name}", found=getattr(self, name), expected=f"at least {least}")


@dataclass(frozen=True)
class RenderedPictures:
    """Scenes that are drawn when asked for. ``keys`` seed what no caption tells: jitter, light, noise."""

    names: Sequence[str]
    items: Sequence[Scene]
    keys: Sequence[tuple[object, ...]]
    size: int

    def __len__(self) -> int:
        return len(self.items)

    @property
    def digests(self) -> list[str]:
        """A hash of all that a picture follows from."""
        return [
            hashlib.sha256(repr((VERSION, self.size, scene, key)).encode()).hexdigest()
            for scene, key in zip(self.items, self.keys, strict=True)
        ]

    def open(self, row: int) -> npt.NDArray[np.uint8]:
        """Picture ``row``: uint8 (size, size, 3), RGB."""
        return render(self.items[row], Draws(*self.keys[row]), self.size)

    def take(self, rows: Rows) -> RenderedPictures:
        """The pictures at ``rows``, in that order."""
        at = [int(row) for row in rows]
        return RenderedPictures(
            [self.names[row] for row in at], [self.items[row] for row in at], [self.keys[row] for row in at], self.size
        )


def render(scene: Scene, draws: Draws, size: int) -> npt.NDArray[np.uint8]:
    """uint8 (size, size, 3): ``scene`` with places, sizes, angles and colours a little off, light and noise."""
    if scene.place is not None:
        row, column = scene.place
        centres = [(0.52 * column + draws.uniform(-0.07, 0.07), 0.52 * row + draws.uniform(-0.07, 0.07))]
    else:
        along = (draws.uniform(-0.56, -0.45), draws.uniform(0.45, 0.56))
        across = (draws.uniform(-0.3, 0.3), draws.uniform(-0.3, 0.3))
        centres = list(zip(along, across, strict=True))
        if scene.relation == "above":
            centres = [(x, y) for y, x in centres]
    placed = [_placed(thing, at, draws) for thing, at in zip(scene.things, centres, strict=True)]
    return draw(placed, _jitter(BACKGROUNDS[scene.background], draws), size, draws)


def _jitter(colour: Rgb, draws: Draws) -> Rgb:
    red, green, blue = colour
    return red + draws.uniform(-14, 14), green + draws.uniform(-14, 14), blue + draws.uniform(-14, 14)


def _placed(thing: Thing, at: tuple[float, float], draws: Draws) -> Placed:
    colour = _jitter(COLOURS[thing.colour], draws)
    red, green, blue = colour
    if sum(colour) > 360:  # marks are darker on a light colour, lighter on a dark one
        second = (red * 0.38, green * 0.38, blue * 0.38)
    else:
        second = (red * 0.35 + 165, green * 0.35 + 165, blue * 0.35 + 165)
    return Placed(
        shape=thing.shape,
        texture=thing.texture,
        colour=colour,
        second=second,
        x=at[0],
        y=at[1],
        radius=draws.uniform(0.24, 0.28) if thing.size == "small" else draws.uniform(0.36, 0.42),
        turn=draws.uniform(-0.25, 0.25),
        phase=draws.share(),
    )


def load_rendered(config: RenderedConfig | None = None) -> PictureSplits[PictureTextSet]:
    """Train, validation, test and ``zero_shot`` of ``config``: the same for the same config, everywhere.

    Test and validation hold families of scenes (:mod:`edgekit.data.scenes`) of which train has none, no two scenes
    that a caption could confuse, and full captions only; a fifth of train's captions name colours and shapes alone.
    ``zero_shot`` shows one object each, of the pairs of shape and colour that no other part has; its names are all 120
    pairs with their articles, for :data:`CLASS_TEMPLATES`. Raises DataError where a held-out part asks for more
    scenes than there are, or train is too small to hold every word of the others.
    """
    config = config or RenderedConfig()
    single, double = scenes.families()
    train, validation, test = (
        _part(
            config,
            part,
            *([one for one in kind if scenes.part_of(one, config.seed) == part] for kind in (single, double)),
        )
        for part in ("train", "validation", "test")
    )
    known = {word for text in train.captions for word in text.split()}
    lacking = sorted({word for part in (validation, test) for text in part.captions for word in text.split()} - known)
    if lacking:
        raise DataError(
            f"rendered pictures: {config.train} of train",
            found=f"no caption with `{lacking[0]}`, which validation or test has",
            expected="every word seen in train",
            fix="Ask for more training pictures or captions.",
        )
    zero_shot = _zero_shot(config)
    rules = [
        f"rendered: seed {config.seed}, {config.size} px; test and validation are families of scenes that train has "
        "none of; every word is in train",
        "rendered: a fifth of train's captions name colours and shapes only",
        "rendered: zero-shot pictures show pairs of shape and colour that no other part has",
    ]
    licence = {"what": "data", "name": NAME, "licence": "made by edgekit", "source": f"rendered by code, {VERSION}"}
    digest = fingerprint(train, validation, test, zero_shot)
    return PictureSplits(train, validation, test, rules, digest, zero_shot, [licence], NAME)


def _part(
    config: RenderedConfig, part: str, single: list[scenes.Family], double: list[scenes.Family]
) -> PictureTextSet:
    """The scenes and captions of one part. Only train may show a scene twice (never twice the same picture)."""
    wanted: int = getattr(config, part)
    draws = Draws(config.seed, "scenes", part)
    found: list[Scene] = []
    seen: set[tuple[object, ...]] = set()
    in_vain = 0
    while len(found) < wanted:
        for scene in scenes.siblings(single, double, draws):
            if part != "train" and scene.key in seen:
                in_vain += 1
            elif len(found) < wanted:
                seen.add(scene.key)
                found.append(scene)
        if in_vain > _TRIES * wanted:
            raise DataError(f"rendered pictures: {part}", found=wanted, expected=f"up to about {len(found):,}")
    captions = [_captions(config, part, row, scene) for row, scene in enumerate(found)]
    picture_of = np.repeat(np.arange(wanted, dtype=np.int64), [len(own) for own in captions])
    return PictureTextSet(_pictures(config, part, found), [text for own in captions for text in own], picture_of)


def _captions(config: RenderedConfig, part: str, row: int, scene: Scene) -> list[str]:
    """Different captions of one scene; fewer than asked for where the draws do not give as many."""
    draws = Draws(config.seed, "captions", part, row)
    found: dict[str, None] = {}
    for _ in range(_TRIES * config.captions):
        short = part == "train" and draws.below(5) == 0
        found[scenes.short_caption(scene, draws) if short else scenes.caption(scene, draws)] = None
        if len(found) == config.captions:
            break
    return list(found)


def _pictures(config: RenderedConfig, part: str, found: list[Scene]) -> RenderedPictures:
    keys = [(config.seed, "picture", part, row) for row in range(len(found))]
    return RenderedPictures([f"{part}/{row:06d}" for row in range(len(found))], found, keys, config.size)


def _zero_shot(config: RenderedConfig) -> PictureSet:
    pairs = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    unseen = scenes.unseen_pairs()
    draws = Draws(config.seed, "zero-shot")
    found: list[Scene] = []
    for row in range(config.zero_shot):
        shape, colour = unseen[row % len(unseen)]
        thing = Thing(shape, colour, draws.choice(TEXTURES), draws.choice(SIZES))
        found.append(Scene((thing,), draws.choice(list(BACKGROUNDS)), place=draws.choice(PLACES)))
    labels = [pairs.index((scene.things[0].shape, scene.things[0].colour)) for scene in found]
    names = [scenes.class_name(shape, colour) for shape, colour in pairs]
    return PictureSet(_pictures(config, "zero-shot", found), np.array(labels, np.int64), names)
