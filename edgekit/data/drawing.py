"""Draw a scene of one or two objects with numpy: signed distances, so that edges are smooth without drawing larger.

Coordinates run from -1 to 1 over the picture, x to the right and y down. Only sums, products, roots and comparisons of
float32 are used on pixels, which IEEE 754 rounds in one way, so that a scene gives the same bytes everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgekit.data.draws import Draws

Field = npt.NDArray[np.float32]
Rgb = tuple[float, float, float]

COLOURS: dict[str, Rgb] = {
    "red": (208, 34, 38), "orange": (244, 132, 24), "yellow": (246, 220, 48), "green": (36, 142, 56),
    "blue": (34, 76, 204), "purple": (122, 38, 150), "pink": (250, 140, 190), "brown": (112, 68, 34),
    "white": (250, 250, 250), "black": (18, 18, 20),
}  # fmt: skip
BACKGROUNDS: dict[str, Rgb] = {
    "gray": (132, 134, 136), "beige": (208, 192, 156), "teal": (70, 148, 146), "mint": (168, 216, 186),
    "lilac": (180, 164, 214),
}  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """One object: where it is, how large (radius), turned by how much (radians), in which colours and texture."""

    shape: str
    texture: str
    colour: Rgb
    second: Rgb  # of the texture's marks
    x: float
    y: float
    radius: float
    turn: float
    phase: float


def _length(u: Field, v: Field) -> Field:
    return np.sqrt(u * u + v * v)


def _circle(u: Field, v: Field) -> Field:
    return _length(u, v) - np.float32(0.92)


def _square(u: Field, v: Field) -> Field:
    return np.maximum(abs(u), abs(v)) - np.float32(0.82)


def _bar(u: Field, v: Field) -> Field:
    return np.maximum(abs(u) - 1.0, abs(v) - 0.4)


def _diamond(u: Field, v: Field) -> Field:
    return (abs(u) * 1.5 + abs(v) - 1.05) * 0.555


def _triangle(u: Field, v: Field) -> Field:
    return np.maximum(v - 0.72, abs(u) * 0.87 - v * 0.49 - 0.5)


def _hexagon(u: Field, v: Field) -> Field:
    a = abs(u)
    return np.maximum(a, a * 0.5 + abs(v) * 0.866) - np.float32(0.86)


def _ring(u: Field, v: Field) -> Field:
    return abs(_length(u, v) - 0.7) - 0.24


def _cross(u: Field, v: Field) -> Field:
    a, b = abs(u), abs(v)
    return np.minimum(np.maximum(a - 0.98, b - 0.31), np.maximum(a - 0.31, b - 0.98))


def _crescent(u: Field, v: Field) -> Field:
    return np.maximum(_length(u, v) - np.float32(0.95), np.float32(0.8) - _length(u - 0.5, v))


def _heart(u: Field, v: Field) -> Field:
    a = abs(u)
    lobe = _length(a - 0.45, v + 0.35) - 0.5
    return np.minimum(lobe, np.maximum(a * 0.74 + v * 0.68 - 0.6, -0.35 - v))


def _arrow(u: Field, v: Field) -> Field:
    b = abs(v)
    return np.minimum(np.maximum(abs(u + 0.4) - 0.58, b - 0.26), np.maximum(u * 0.6 + b * 0.8 - 0.62, -u))


_SPIKES = [(math.sin(2 * math.pi * k / 5), -math.cos(2 * math.pi * k / 5)) for k in range(5)]


def _star(u: Field, v: Field) -> Field:
    """Inside at least four of the five half-planes of a pentagram: the second largest of five distances."""
    first = second = np.full(np.broadcast_shapes(u.shape, v.shape), -9.0, np.float32)
    for x, y in _SPIKES:
        side = v * np.float32(-y) - u * np.float32(x) - np.float32(0.33)
        second = np.maximum(second, np.minimum(first, side))
        first = np.maximum(first, side)
    return second


SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "ring": _ring, "cross": _cross,
    "diamond": _diamond, "hexagon": _hexagon, "heart": _heart, "crescent": _crescent, "arrow": _arrow, "bar": _bar,
}  # fmt: skip


def _wave(t: Field) -> Field:
    """A triangle wave of period 1: 0.5 at whole numbers, 0 halfway between."""
    return abs(t - np.floor(t) - np.float32(0.5))


def _texture(name: str, u: Field, v: Field, phase: float, sharp: float) -> Field:
    """Share of the second colour, 0..1. ``sharp``: pixels a radius, for the width of an edge."""
    if name == "striped":
        return np.clip((_wave(u * np.float32(1.6) + np.float32(phase)) - 0.25) * (sharp / 1.6) + 0.5, 0, 1)
    a, b = _wave(u * np.float32(1.7) + np.float32(phase)), _wave(v * np.float32(1.7) + np.float32(phase))
    if name == "dotted":
        a, b = a - np.float32(0.5), b - np.float32(0.5)
        return np.clip((np.float32(0.3) - _length(a, b)) * (sharp / 1.7) + 0.5, 0, 1)
    steps = (a - np.float32(0.25)) * (b - np.float32(0.25))  # checked: the sign of a product
    return np.clip(steps * (4 * sharp / 1.7) + 0.5, 0, 1)


@lru_cache(maxsize=8)
def _noise(size: int) -> npt.NDArray[np.float32]:
    """A tile of noise, (2 size, 2 size, 3) of mean 0 and spread 1: each picture takes a window of it."""
    # The raw words of a bit generator are the one stream that numpy promises to keep.
    raw = np.random.PCG64(0).random_raw(size * size * 12).view(np.uint16).reshape(4, 2 * size, 2 * size, 3)
    total = raw.astype(np.float32).sum(axis=0)  # four uniform draws: near enough to a normal one
    return (total - np.float32(2 * 65535)) * np.float32(1 / (65536 * math.sqrt(4 / 12)))


@lru_cache(maxsize=8)
def _axis(size: int) -> npt.NDArray[np.float32]:
    return ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)


def draw(objects: list[Placed], background: Rgb, size: int, draws: Draws) -> npt.NDArray[np.uint8]:
    """uint8 (size, size, 3): ``objects`` from back to front, on ``background``, with a slope of light and noise."""
    axis = _axis(size)
    slope = [draws.uniform(-0.12, 0.12), draws.uniform(-0.12, 0.12)]
    light = 1 + axis[:, None] * np.float32(slope[0]) + axis[None, :] * np.float32(slope[1])
    picture = light[:, :, None] * np.asarray(background, np.float32)
    for one in objects:
        _place(picture, axis, one)
    top, left, amount = draws.below(size), draws.below(size), draws.uniform(2, 12)
    picture += _noise(size)[top : top + size, left : left + size] * np.float32(amount)
    return np.clip(picture + np.float32(0.5), 0, 255).astype(np.uint8)


def _place(picture: npt.NDArray[np.float32], axis: npt.NDArray[np.float32], one: Placed) -> None:
    size = len(axis)
    reach = one.radius * 1.3

    def window(at: float) -> slice:
        first, last = (int((at + side * reach + 1) / 2 * size) for side in (-1, 1))
        return slice(max(0, first), min(size, last + 1))

    rows, columns = window(one.y), window(one.x)
    cosine, sine = math.cos(one.turn) / one.radius, math.sin(one.turn) / one.radius
    x = axis[columns][None, :] - np.float32(one.x)
    y = axis[rows][:, None] - np.float32(one.y)
    u = x * np.float32(cosine) + y * np.float32(sine)
    v = y * np.float32(cosine) - x * np.float32(sine)
    sharp = one.radius * size / 2
    cover = np.clip(np.float32(0.5) - SHAPES[one.shape](u, v) * np.float32(sharp), 0, 1)[:, :, None]
    colour = np.asarray(one.colour, np.float32)
    if one.texture != "plain":
        share = _texture(one.texture, u, v, one.phase, sharp)[:, :, None]
        colour = colour + share * (np.asarray(one.second, np.float32) - colour)
    part = picture[rows, columns]
    part += cover * (colour - part)
