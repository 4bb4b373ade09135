"""Read a recipe: a file or a preset by name, with flags laid over it. Every mistake is a RecipeError."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edgekit.errors import RecipeError
from edgekit.recipe.explain import explain, fields_at
from edgekit.recipe.schema import Recipe
from edgekit.recipe.stages import STAGES

DEFAULT = "sentiment"
DEFAULTS = {"clip": "clip"}  # of tasks that have a default of their own


def presets() -> dict[str, str]:
    """The shipped recipes: name -> YAML text."""
    folder = resources.files("edgekit.recipe") / "presets"
    return {
        item.name.removesuffix(".yaml"): item.read_text(encoding="utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".yaml")
    }


def load_recipe(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in file ``path`` (or the preset of that name) with ``overrides`` laid over it.

    ``overrides`` maps dotted keys (``stages.distill.epochs``) to values; a string is read as YAML unless the field
    itself is text. ``only_stages`` (a list, or text with commas) switches all other stages off, before the rest is
    applied. Without ``path`` the recipe is the built-in default (of ``task``, where that is given); or, where ``model``
    is overridden, an empty one.
    A new ``model`` drops the old one's sha256; new ``data.train`` drops the old validation and test data and limit.
    Raises RecipeError.
    """
    overrides = dict(overrides or {})
    where = "flags"
    if path is None:
        default = DEFAULTS.get(str(overrides.get("task")), DEFAULT)
        raw = {} if "model" in overrides else parse_yaml(presets()[default], f"preset {default}")
    else:
        text, where = _read(path)
        raw = parse_yaml(text, where)
    raw = apply_overrides(raw, overrides)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise explain(error, where) from error


def _read(path: str | Path) -> tuple[str, str]:
    known = presets()
    file = Path(path)
    if isinstance(path, str) and path in known and not file.is_file():
        return known[path], f"preset {path}"
    if not file.is_file():
        near = get_close_matches(str(path), [*known, *(p.name for p in Path().glob("*.y*ml"))])
        raise RecipeError(
            f"recipe {path}",
            found="a folder" if file.is_dir() else "no such file",
            expected=f"a YAML file or a preset ({', '.join(known)})",
            fix=f"Did you mean {near[0]}?" if near else "Check the path, or name a preset.",
        )
    try:
        return file.read_text(encoding="utf-8-sig"), str(path)
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"recipe {path}",
            found=f"byte {error.start} that is not UTF-8",
            expected="UTF-8 text",
            fix="Save it as UTF-8.",
        ) from error
    except OSError as error:
        raise RecipeError(f"recipe {path}", found=error.strerror, expected="a file that can be read") from error


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: PyYAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"key `{key.value}` twice (line {line})")
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """YAML text as a mapping with text keys; RecipeError tells the line."""
    try:
        raw = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(
            f"{where}{place}",
            found=getattr(error, "problem", None) or str(error).splitlines()[0],
            expected="valid YAML",
            fix="Check indentation, colons and quotes there.",
        ) from error
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        found = "an empty file" if raw is None else type(raw).__name__
        raise RecipeError(
            where, found=found, expected="`key: value` lines", fix="`edgekit compress --dry-run` prints one."
        )
    return raw


def apply_overrides(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``raw`` with dotted ``overrides`` laid over it; see :func:`load_recipe` for the rules."""
    result = copy.deepcopy(dict(raw))
    overrides = dict(overrides)
    if "model" in overrides:
        result.pop("model_sha256", None)
    if "data.train" in overrides and isinstance(result.get("data"), dict):
        for part in ("validation", "test", "max_examples"):
            result["data"].pop(part, None)
    only = overrides.pop("only_stages", None)
    if only is not None:
        _only(result, only)
    for key in sorted(overrides, key=lambda key: key.count(".")):  # `data` before `data.train`
        _set(result, key, overrides[key])
    return result


def _only(raw: dict[str, Any], only: str | list[str]) -> None:
    names = [part.strip() for part in only.split(",")] if isinstance(only, str) else list(only)
    for name in names:
        if name not in STAGES:
            near = get_close_matches(str(name), STAGES, n=1)
            raise RecipeError(
                "stages",
                found=f"`{name}`",
                expected=f"some of {', '.join(STAGES)}",
                fix=f"Did you mean {near[0]}?" if near else "Name stages of the pipeline.",
            )
    for name in STAGES:
        if name != "export":
            _set(raw, f"stages.{name}.enabled", name in names)


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key, making the mappings on the way."""
    parts = key.split(".")
    kind = fields_at(tuple(int(part) if part.isdigit() else part for part in parts))
    if isinstance(value, str) and not kind.takes_text:
        try:
            value = yaml.load(value, Loader=_Loader)
        except yaml.YAMLError as error:
            raise RecipeError(f"flag {key}", found=f"`{value}`", expected="a YAML value", fix="Quote it.") from error
    node: Any = raw
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        index: Any = part
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise RecipeError(f"flag {key}", found=f"`{part}`", expected=f"a number below {len(node)}")
            index = int(part)
        elif not isinstance(node, dict):
            where = ".".join(parts[:depth])
            raise RecipeError(f"flag {key}", found=f"`{where}` is not a mapping", fix=f"Give `{where}` as a whole.")
        if last:
            node[index] = value
        elif isinstance(node, list):
            node = node[index]
        else:
            if node.get(index) is None:
                node[index] = {}
            node = node[index]
