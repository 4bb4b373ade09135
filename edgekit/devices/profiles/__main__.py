"""``python -m edgekit.devices.profiles`` prints the JSON Schema; with ``docs`` it updates the pages there."""

from __future__ import annotations

import sys
from pathlib import Path

from edgekit.devices.profiles.reference import schema_text, write

if __name__ == "__main__":
    if len(sys.argv) > 1:
        for path in write(Path(sys.argv[1])):
            print(path)
    else:
        sys.stdout.write(schema_text())
