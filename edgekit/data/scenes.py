"""What rendered pictures show, and how captions say it.

A scene has one object at one of nine places, or two objects with a relation. Scenes fall into families: one object's
shape, colour and texture; two objects' shapes and colours, whoever has which. A family belongs to one part of a split,
and every full caption tells its scene's family: so no test caption can stand in train, while each word does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product
from typing import TypeAlias

from edgekit.data.drawing import BACKGROUNDS, COLOURS, SHAPES
from edgekit.data.draws import Draws, seed_of

TEXTURES = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "large")
PLACES = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
PARTS = {"test": 0.12, "validation": 0.08}  # share of the families; the rest is train

SHAPE_WORDS = {"circle": ("circle", "disc"), "square": ("square", "box"), "ring": ("ring", "hoop"),
               "cross": ("cross", "plus"), "crescent": ("crescent", "moon"), "bar": ("bar", "rectangle"),
               "diamond": ("diamond", "rhombus")}  # fmt: skip
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
TEXTURE_WORDS = {"striped": ("striped", "stripes"), "dotted": ("spotted", "dots"), "checked": ("checked", "checks")}
PREFIXES = ("", "", "a photo of ", "a picture of ", "an image of ", "there is ")
RELATIONS = {  # relation: (first to second), (second to first), both named by their places
    "left": (("left of", "to the left of"), ("right of", "to the right of"), ("on the left", "on the right")),
    "above": (("above", "over"), ("below", "under"), ("at the top", "at the bottom")),
}
ROWS = {-1: "top", 0: "", 1: "bottom"}
COLUMNS = {-1: "left", 0: "", 1: "right"}


@dataclass(frozen=True)
class Thing:
    """One object."""

    shape: str
    colour: str
    texture: str
    size: str


@dataclass(frozen=True)
class Scene:
    """One object at ``place`` (row and column, -1 to 1), or two: the first is left of or above the second."""

    things: tuple[Thing, ...]
    background: str
    place: tuple[int, int] | None = None
    relation: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """All that a full caption always tells: everything but the background."""
        return self.things, self.place, self.relation


Family: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], str]


def unseen_pairs() -> list[tuple[str, str]]:
    """The 24 of 120 pairs of shape and colour that no scene of train, validation or test shows: for zero-shot."""
    colours = list(COLOURS)
    return [(shape, colours[(3 * row + step) % 10]) for row, shape in enumerate(SHAPES) for step in (1, 6)]


def families() -> tuple[list[Family], list[Family]]:
    """All families of one object, and of two: shapes, colours, and the texture ("" for two objects)."""
    unseen = set(unseen_pairs())
    single: list[Family] = [
        ((shape,), (colour,), texture)
        for shape, colour, texture in product(SHAPES, COLOURS, TEXTURES)
        if (shape, colour) not in unseen
    ]
    double: list[Family] = [
        (shapes, colours, "")
        for shapes in combinations_with_replacement(SHAPES, 2)
        for colours in combinations_with_replacement(COLOURS, 2)
        if (shapes[0] != shapes[1] or colours[0] != colours[1]) and not set(product(shapes, colours)) & unseen
    ]
    return single, double


def part_of(family: Family, seed: int) -> str:
    """The part that ``family`` belongs to, by hash."""
    at = seed_of(seed, "family", *family[0], *family[1], family[2]) / 2**63
    return "test" if at < PARTS["test"] else "validation" if at < PARTS["test"] + PARTS["validation"] else "train"


def siblings(single: Sequence[Family], double: Sequence[Family], draws: Draws) -> list[Scene]:
    """Four scenes of one family that differ little, which makes them hard to tell apart.

    One object: another size, another place, both. Two: changed places, changed colours, another texture of one.
    """
    alone = bool(single) and (not double or draws.share() < 0.25)
    shapes, colours, texture = draws.choice(single if alone else double)
    backgrounds = [draws.choice(list(BACKGROUNDS)) for _ in range(4)]
    if alone:
        size = draws.below(2)
        one, two = (Thing(shapes[0], colours[0], texture, SIZES[which]) for which in (size, 1 - size))
        first = draws.below(len(PLACES))
        second = (first + 1 + draws.below(len(PLACES) - 1)) % len(PLACES)
        pairs = ((one, first), (two, first), (one, second), (two, second))
        return [
            Scene((thing,), back, place=PLACES[place]) for (thing, place), back in zip(pairs, backgrounds, strict=True)
        ]
    if draws.share() < 0.5:
        colours = colours[::-1]
    a, b = (
        Thing(shape, colour, draws.choice(TEXTURES), draws.choice(SIZES))
        for shape, colour in zip(shapes, colours, strict=True)
    )
    other = TEXTURES[(TEXTURES.index(a.texture) + 1 + draws.below(3)) % 4]
    things = (
        (a, b),
        (b, a),
        (replace(a, colour=b.colour), replace(b, colour=a.colour)),
        (replace(a, texture=other), b),
    )
    relation = draws.choice(list(RELATIONS))
    return [Scene(pair, back, relation=relation) for pair, back in zip(things, backgrounds, strict=True)]


def scene_count() -> int:
    """How many scenes captions can tell apart (the background, which some leave out, not counted): exact."""
    single, double = families()
    one = len(single) * len(SIZES) * len(PLACES)
    looks = (len(TEXTURES) * len(SIZES)) ** 2 * len(RELATIONS)
    two = 0
    for shapes, colours, _ in double:
        # Who has which colour, and who stands first: arrangements that are not the same twice.
        pairs = {
            order
            for given in (colours, colours[::-1])
            for pair in [tuple(zip(shapes, given, strict=True))]
            for order in (pair, pair[::-1])
        }
        two += len(pairs) * looks
    return one + two


def class_name(shape: str, colour: str) -> str:
    """A class as prompts have it, with its article: "an orange star"."""
    return _a(f"{colour} {shape}")


def caption(scene: Scene, draws: Draws) -> str:
    """A full caption: objects, textures, sizes, and place or relation; the background in some."""
    words = [_thing(thing, draws) for thing in scene.things]
    prefix = draws.choice(PREFIXES)
    behind = draws.choice(("", "", f" on a {scene.background} background", f" on {scene.background}"))
    if scene.place is not None:
        return f"{prefix}{words[0]} {_place(scene.place, draws)}{behind}"
    forward, backward, placed = RELATIONS[str(scene.relation)]
    form = draws.below(3)
    if form == 0:
        return f"{prefix}{words[0]} {draws.choice(forward)} {words[1]}{behind}"
    if form == 1:
        return f"{prefix}{words[1]} {draws.choice(backward)} {words[0]}{behind}"
    return f"{prefix}{words[0]} {placed[0]} and {words[1]} {placed[1]}{behind}"


def short_caption(scene: Scene, draws: Draws) -> str:
    """Colours and shapes alone. It fits other scenes too, so only train has such captions."""
    words = [_a(f"{thing.colour} {_shape(thing.shape, draws)}") for thing in scene.things]
    if draws.share() < 0.5:
        words.reverse()
    return draws.choice(PREFIXES) + " and ".join(words)


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _shape(shape: str, draws: Draws) -> str:
    return draws.choice(SHAPE_WORDS.get(shape, (shape,)))


def _thing(thing: Thing, draws: Draws) -> str:
    size, shape = draws.choice(SIZE_WORDS[thing.size]), _shape(thing.shape, draws)
    if thing.texture == "plain":
        return _a(f"{size} {thing.colour} {shape}")
    adjective, noun = TEXTURE_WORDS[thing.texture]
    if draws.share() < 0.5:
        return _a(f"{size} {adjective} {thing.colour} {shape}")
    return _a(f"{size} {thing.colour} {shape} with {noun}")


def _place(place: tuple[int, int], draws: Draws) -> str:
    row, column = ROWS[place[0]], COLUMNS[place[1]]
    if row and column:
        return draws.choice((f"in the {row} {column} corner", f"at the {row} {column}"))
    if row:
        return draws.choice((f"at the {row}", f"in the {row} middle"))
    if column:
        return draws.choice((f"on the {column}", f"at the {column} side"))
    return draws.choice(("in the middle", "in the centre"))
