"""Turn pydantic's errors into ours: the file, the field, what was found, what was expected, what to do."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from edgekit.errors import RecipeError
from edgekit.recipe.schema import Recipe


@dataclass(frozen=True)
class Place:
    """What stands at a path of the recipe. ``path`` is as far as it could be followed."""

    path: tuple[str | int, ...] = ()
    keys: list[str] = field(default_factory=list)  # of the model there, if it is one
    takes_text: bool = False  # the field is plain text, so a flag's value is not read as YAML


def unwrap(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without Annotated and unions."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return unwrap(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [one for part in get_args(annotation) for one in unwrap(part)]
    return [annotation]


def fields_at(loc: tuple[str | int, ...], model: type[BaseModel] = Recipe) -> Place:
    """Follow ``loc`` through the models; parts that name union branches are left out of the path."""
    here: list[Any] = [model]
    path: list[str | int] = []
    for part in loc:
        step: list[Any] = []
        for one in here:
            if isinstance(one, type) and issubclass(one, BaseModel) and part in one.model_fields:
                step += unwrap(one.model_fields[str(part)].annotation)
            elif get_origin(one) is list and isinstance(part, int):
                step += unwrap(get_args(one)[0])
        if not step:
            break
        here = step
        path.append(part)
    keys = [key for one in here if isinstance(one, type) and issubclass(one, BaseModel) for key in one.model_fields]
    text = any(one is str for one in here) and not any(one in (int, float, bool) for one in here)
    return Place(tuple(path), keys, text)


def _all_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    result: list[str] = []
    for key, info in model.model_fields.items():
        result.append(prefix + key)
        for one in unwrap(info.annotation):
            if isinstance(one, type) and issubclass(one, BaseModel):
                result += _all_keys(one, f"{prefix}{key}.")
    return result


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, value)) or 'nothing'}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass
class _Problem:
    path: str
    found: str
    expected: list[str]
    fix: str

    def line(self) -> str:
        return f"`{self.path}`: found {self.found}, expected {' or '.join(self.expected)}"


def _fix(path: str, info: str) -> str:
    return f"Correct `{path}`{info}."


def explain(error: ValidationError, where: str) -> RecipeError:
    """One RecipeError for all that is wrong in ``where``; the first problem fills its parts."""
    problems: dict[str, _Problem] = {}
    for one in error.errors(include_url=False):
        loc = tuple(one["loc"])
        place = fields_at(loc)
        path = ".".join(map(str, place.path)) or "recipe"
        kind, context = one["type"], one.get("ctx", {})
        fix = _fix(path, "; docs/recipe.md describes every field")
        if kind == "extra_forbidden":
            path = ".".join(map(str, loc))
            expected, fix = _unknown(str(loc[-1]), place)
            found = "a key that is not known"
        elif kind == "missing":
            path = ".".join(map(str, loc))
            found, expected = "nothing", "a value"
            fix = f"Add `{path}`, or give it as a flag."
        elif kind == "value_error":
            found, expected = _show(one["input"]), str(context.get("error", one["msg"]))
        elif kind == "literal_error":
            found, expected = _show(one["input"]), f"one of {context['expected']}"
            choices = [str(choice) for item in _literals(place.path) for choice in item]
            near = get_close_matches(str(one["input"]), choices, n=1)
            fix = f"Did you mean {near[0]}?" if near else fix
        else:
            found, expected = _show(one["input"]), one["msg"].removeprefix("Input should be ")
        if path in problems:
            problems[path].expected.append(expected)
        else:
            problems[path] = _Problem(path, found, [expected], fix)
    first, *others = problems.values()
    more = "".join(f"\nAlso {other.line()}." for other in others)
    return RecipeError(
        f"{where}: `{first.path}`", found=first.found, expected=" or ".join(first.expected), fix=first.fix + more
    )


def _literals(path: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
    here: list[Any] = [Recipe]
    for part in path:
        step: list[Any] = []
        for one in here:
            if isinstance(one, type) and issubclass(one, BaseModel) and part in one.model_fields:
                step += unwrap(one.model_fields[str(part)].annotation)
            elif get_origin(one) is list:
                step += unwrap(get_args(one)[0])
        here = step
    return [get_args(one) for one in here if get_origin(one) is Literal]


def _unknown(key: str, place: Place) -> tuple[str, str]:
    near = get_close_matches(key, place.keys, n=1)
    elsewhere = [full for full in _all_keys() if full.rpartition(".")[2] == key]
    if near:
        fix = f"Did you mean `{near[0]}`?"
    elif elsewhere:
        fix = f"It belongs elsewhere: {', '.join(f'`{full}`' for full in elsewhere[:3])}."
    else:
        fix = "Remove it; docs/recipe.md describes every field."
    return f"one of {', '.join(place.keys)}", fix
