"""Board files to boards: strict on keys and types, each error with its file."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from pathlib import Path
from typing import Any

from edgekit.devices.boards.record import Board
from edgekit.errors import BundleError, InputError

FOLDER = Path(__file__).parent


def names(folder: Path = FOLDER) -> list[str]:
    """Keys of the known boards."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load(key: str, folder: Path = FOLDER) -> Board:
    """The board ``key``. Raises ``InputError`` for one that is not known, or whose file is wrong."""
    known = names(folder)
    if key not in known:
        raise InputError("board", found=repr(key)[:60], expected=", ".join(known), fix="`edgekit devices` lists them.")
    path = folder / f"{key}.toml"
    try:
        value = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path.name} cannot be read", found=str(error), expected="TOML") from None
    _known_keys(Board, value, path.name)
    try:
        board: Board = Board.from_dict({**value, "key": key}, path.name)
    except BundleError as error:  # what records raise, wherever they come from
        raise InputError(error.what, found=error.found, expected=error.expected) from None
    return board


def _known_keys(cls: Any, value: object, where: str) -> None:
    """Raises ``InputError`` for a key that ``cls`` lacks, however deep: it would be a fact that nobody reads."""
    if not isinstance(value, dict):
        return
    hints = typing.get_type_hints(cls)
    for key, inner in value.items():
        if key not in hints:
            raise InputError(f"{where}: {key}", found="a key that is not known", expected=", ".join(hints))
        kinds = [one for one in (hints[key], *typing.get_args(hints[key])) if dataclasses.is_dataclass(one)]
        for item in inner if isinstance(inner, list) else [inner]:
            if kinds:
                _known_keys(kinds[0], item, f"{where}: {key}")
