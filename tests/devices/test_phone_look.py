"""What can be told of the page without a browser: contrast, labels, nothing that moves against the user's wish."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "edgekit/devices/browser/page"
CSS = (PAGE / "page.css").read_text()
THEMES = [dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)]
TEXTS = [("text", "ground"), ("text", "card"), ("quiet", "ground"), ("quiet", "card"), ("on-accent", "accent")]
TEXTS += [("accent", "soft"), ("bad", "card"), ("card", "good"), ("card", "bad"), ("text", "soft"), ("quiet", "soft")]
SHAPES = [("fill", "card"), ("fill", "track"), ("accent", "card"), ("quiet", "card")]


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_contrast(theme: dict[str, str]) -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    for front, back in TEXTS:
        assert contrast(theme[front], theme[back]) >= 4.5, (front, back)
    for front, back in SHAPES:
        assert contrast(theme[front], theme[back]) >= 3, (front, back)


def test_both_themes_have_the_same_colours() -> None:
    light, dark = THEMES
    assert set(light) == set(dark) and len(light) > 10
    assert set(re.findall(r"var\(--([\w-]+)\)", CSS)) <= set(light)


class Controls(HTMLParser):
    """Ids of form fields, what labels are for, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: set[str] = set()
        self.labelled: set[str] = set()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag in ("input", "select", "textarea"):
            self.fields.add(given["id"] or "")
        if tag == "label":
            self.labelled.add(given["for"] or "")


def test_every_field_has_a_label_and_scripts_find_what_they_look_for() -> None:
    found = Controls()
    found.feed((PAGE / "index.html").read_text())
    assert found.fields and found.fields <= found.labelled
    assert len(found.ids) == len(set(found.ids))
    for script in PAGE.glob("*.js"):
        asked = set(re.findall(r'\b(?:at|show)\("([\w-]+)"', script.read_text()))
        assert asked <= set(found.ids), script.name


def test_motion_is_left_out_where_it_is_not_wanted() -> None:
    assert "prefers-reduced-motion: reduce" in CSS
    assert "animation" not in CSS
