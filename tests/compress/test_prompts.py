"""What a recipe may say of labels that are packed; test_clip.py packs some."""

from __future__ import annotations

import pytest

from edgekit.errors import RecipeError
from edgekit.recipe import load_recipe


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        ({"labels": []}, r"`prompts`.*labels: at least one"),
        ({"labels": ["a", "a"]}, "each once"),
        ({"labels": ["a"], "templates": ["no place"]}, "for the label"),
        ({"labels": ["a"], "text_tower": "away"}, "leave_out"),
    ],
)
def test_prompts_that_cannot_be(prompts: dict[str, object], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        load_recipe("clip", {"prompts": prompts})


def test_prompts_are_for_pictures() -> None:
    with pytest.raises(RecipeError, match="task clip"):
        load_recipe("sentiment", {"prompts": {"labels": ["good", "bad"]}})
    assert load_recipe("clip", {"prompts.labels": "a cat, a dog"}).prompts.labels == ["a cat", "a dog"]
