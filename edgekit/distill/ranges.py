"""ranges.json beside a torch model's weights: what its activations were rounded to while it was trained for INT8."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.errors import ModelError

NAME = "ranges.json"

Ranges = dict[str, tuple[float, int]]  # a Linear's name -> scale and zero point of the UINT8 codes of its input


def exist(folder: Path) -> bool:
    """Whether the model in ``folder`` was trained for INT8."""
    return (folder / NAME).is_file()


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
