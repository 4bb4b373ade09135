"""state.json: which slot is the current one, whether it proved itself, and where to go back to."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.manifest import load_json
from edgekit.errors import BundleError

NAME = "state.json"
SCHEMA_VERSION = 1
_MAX_BYTES = 1 << 14
_SLOT = re.compile(r"[0-9]{6}\.edge")


@dataclass(frozen=True)
class State:
    """``current`` and ``fallback``: names of slots, "" for none; ``boots``: since the current one was installed.

    ``confirmed``: the application said that the current one works. ``note``: why the last change was made.
    """

    current: str
    fallback: str = ""
    confirmed: bool = False
    boots: int = 0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def to_bytes(self) -> bytes:
        """What the file holds."""
        return (json.dumps({"schema_version": SCHEMA_VERSION, **self.to_dict()}, indent=1) + "\n").encode()


def parse(data: bytes, where: str = NAME) -> State:
    """The bytes of a state. Raises ``BundleError`` for anything that :meth:`State.to_bytes` would not write."""
    value = load_json(data, where, _MAX_BYTES)
    if not isinstance(value, dict) or value.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(where, found=repr(value)[:60], expected=f"schema_version {SCHEMA_VERSION}")
    for name, kind in {"current": str, "fallback": str, "confirmed": bool, "boots": int, "note": str}.items():
        if type(value.get(name)) is not kind:
            raise BundleError(f"{where}: {name}", found=repr(value.get(name))[:60], expected=f"a {kind.__name__}")
    if not is_slot(value["current"]) or not (is_slot(value["fallback"]) or value["fallback"] == ""):
        names = f"{value['current']!r:.40}, {value['fallback']!r:.40}"
        raise BundleError(where, found=f"slots {names}", expected="names such as 000001.edge")
    if value["boots"] < 0 or value["current"] == value["fallback"]:
        raise BundleError(where, found=repr(value)[:100], expected="boots from 0, two slots")
    return State(value["current"], value["fallback"], value["confirmed"], value["boots"], value["note"])


def read(path: Path) -> State | None:
    """The state in ``path``; None where there is none. Raises ``BundleError`` for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{path} cannot be read", found=error.strerror) from None
    return parse(data, path.name)


def is_slot(name: str) -> bool:
    """Whether ``name`` is one that slots give: six digits and .edge."""
    return _SLOT.fullmatch(name) is not None


def is_leftover(name: str) -> bool:
    """Whether ``name`` is what an installation or a change of the state was building when it was interrupted."""
    return name == f".{NAME}.tmp" or (name[:1] == "." and name[-4:] == ".tmp" and is_slot(name[1:-4]))
