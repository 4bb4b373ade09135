"""The HTML can be read by eyes that need contrast, by ears, by a keyboard: its structure and its colours."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from edgekit.report import html, read, read_all
from tests.report.profiles import operators, profile, sustained

TEXTS = ["ink", "soft"]  # on the page and on panels
ON = {"good": "good-bg", "bad": "bad-bg", "warn": "warn-bg"}
DRAWN = ["bar", "gone", "s0", "s1", "s2", "s3", "s4", "focus"]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance of ``#rrggbb`` or ``#rgb``."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio: 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def themes() -> dict[str, dict[str, str]]:
    """Name of each theme of the style sheet -> its colours."""
    css = (files("edgekit.report") / "templates/report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-fA-F]+)", block)) for block in blocks]
    assert len(found) == 3
    return dict(zip(("light", "dark", "print"), found, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_colours_have_contrast(theme: str) -> None:
    colours = themes()[theme]
    assert colours.keys() == themes()["light"].keys()
    for name in TEXTS:
        for ground in ("paper", "panel"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name, ground in ON.items():
        assert contrast(colours[name], colours[ground]) >= 4.5, name
        assert contrast(colours["ink"], colours[ground]) >= 4.5, f"a cell of the matrix, {ground}"
    assert contrast(colours["focus"], colours["paper"]) >= 4.5, "links"
    for name in DRAWN:
        assert contrast(colours[name], colours["paper"]) >= 3, name
    assert contrast(colours["bar"], colours["band"]) >= 3, "a curve over a band"


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


class Page(HTMLParser):
    """What stands where: headings, tables, pictures, ids, links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.pictures: list[set[str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "svg":
            self.pictures.append(set() if "aria-hidden" not in dict(attrs) else {"title", "desc", "hidden"})
        if "svg" in self.inside and tag in ("title", "desc"):
            self.pictures[-1].add(tag)
        if tag not in ("meta", "rect", "circle", "path"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def pages(small_bundle: Path, clip_bundle: Path) -> list[Page]:
    """One bundle on three boards; two bundles."""
    boards = [
        profile(small_bundle, sustain=sustained(9.0), ops=operators(3.0)),
        profile(small_bundle, board="pixel7", target="browser"),
        profile(small_bundle, board="pi4", basis="emulated"),
    ]
    return [Page(html([read(small_bundle, boards)])), Page(html(read_all([small_bundle, clip_bundle], boards)))]


def test_pictures_have_words(pages: list[Page]) -> None:
    for page in pages:
        assert len(page.pictures) >= 6
        assert all({"title", "desc"} <= one for one in page.pictures)
        assert all(one.get("role") == "img" or one.get("aria-hidden") == "true" for one in page.all("svg"))


def test_tables_have_headings(pages: list[Page]) -> None:
    for page in pages:
        assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
        assert len(page.all("caption")) == len(page.all("table")) >= 8
        rows = [one for one in page.all("th") if one.get("scope") == "row"]
        assert len(rows) >= len(page.all("table"))


def test_a_keyboard_reaches_everything(pages: list[Page]) -> None:
    for page in pages:
        wide = [one for one in page.all("div") if one.get("class") == "scroll"]
        assert len(wide) == len(page.all("table"))
        assert all(one.get("tabindex") == "0" and one.get("role") == "region" and one.get("aria-label") for one in wide)
        links = [str(one["href"]) for one in page.all("a")]
        ids = [one["id"] for _, one in page.tags if one.get("id")]
        assert len(set(ids)) == len(ids), "an id stands twice"
        assert links[0] == "#report" and {link.removeprefix("#") for link in links} == set(ids)


def test_headings_and_landmarks(pages: list[Page]) -> None:
    for page in pages:
        assert page.all("html") == [{"lang": "en"}]
        assert len(page.all("main")) == 1 and all(one.get("aria-label") for one in page.all("nav"))
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels)), "a level is skipped"


def test_every_section_says_what_it_shows_and_on_what_basis(small_bundle: Path) -> None:
    page = html([read(small_bundle, [profile(small_bundle)])])
    sections = re.findall(r"<section>(.*?)</section>", page, flags=re.DOTALL)
    assert len(sections) >= 6
    for section in sections:
        assert 'class="lead"' in section
        heading = re.search(r'id="b1-(\w+)"', section)
        name = heading[1] if heading else "words"
        assert 'class="basis"' in section or name in ("budget", "basis", "made", "words"), name
