"""A small service without a network: label every .txt file that arrives in a folder, one JSON line each.

python examples/watch_a_folder.py BUNDLE FOLDER [--once]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import edgekit


def main(bundle: str, folder: str, once: bool) -> None:
    """Look twice a second; a file is answered once, whatever its length."""
    report = edgekit.verify(bundle)
    if not report.ok:
        sys.exit(f"{bundle} does not pass its own checks on this machine; run: edgekit verify {bundle}")
    model = edgekit.load(bundle)
    seen: set[Path] = set()
    while True:
        for path in sorted(set(Path(folder).glob("*.txt")) - seen):
            seen.add(path)
            answer = model.classify(path.read_text("utf-8"))
            print(
                json.dumps({"file": path.name, "label": answer.labels[0], "score": round(float(answer.scores[0]), 4)})
            )
        if once:
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--once" in sys.argv)
