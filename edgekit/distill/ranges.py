"""ranges.json beside a torch model's weights: what its activations were rounded to while it was trained for INT8."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgekit.errors import ModelError

NAME = "ranges.json"

Ranges = dict[str, tuple[float, int]]  # name -> scale and zero point of UINT8 codes; a Linear's name is its input's
SMALL = 4096  # numbers; an embedding table of fewer (segments, relative positions) saves nothing and stays float
RESULT, SUM = "/result", "/sum"  # behind a convolution's name: what it gives, and what that is added into


def exist(folder: Path) -> bool:
    """Whether the model in ``folder`` was trained for INT8."""
    return (folder / NAME).is_file()


def of_tower(ranges: Ranges, name: str) -> Ranges:
    """Those of tower ``name`` of a dual encoder, by their names in it."""
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in ranges.items() if key.startswith(start)}


def module_of(name: str) -> str:
    """A module by its name in torch: exported, a Sequential's ``stem.0`` is called ``stem.stem.0``."""
    return re.sub(r"(?<![^.])(\w+)\.\1\.(\d+)(?![^.])", r"\1.\2", name)


def write(ranges: Ranges, folder: Path) -> None:
    """Write ``ranges`` to ``folder`` as {name: {"scale", "zero_point"}}; float32 scales read back exactly."""
    rows = {name: {"scale": scale, "zero_point": zero} for name, (scale, zero) in ranges.items()}
    (folder / NAME).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def read(folder: Path) -> Ranges:
    """What :func:`write` wrote. Raises ModelError when it is damaged."""
    path = folder / NAME
    try:
        rows = json.loads(path.read_text("utf-8"))
        return {name: (float(row["scale"]), int(row["zero_point"])) for name, row in rows.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            str(path),
            found=f"{type(error).__name__}: {error}"[:200],
            expected="a scale and a zero_point a module",
            fix="Run the stage qat again.",
        ) from None
