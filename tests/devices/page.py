"""Running the phone page's own modules in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "edgekit/devices/browser/page"


def run_page(folder: Path, code: str, *files: Path) -> Any:
    """What ``code`` prints as JSON; it may import the page's modules, and has the ``files`` as process.argv[2...].

    Skips where there is no node.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, to run the page's own code")
    for path in PAGE.glob("*.js"):
        shutil.copyfile(path, folder / path.name)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "main.js").write_text('import fs from "node:fs";\n' + code)
    command = [node, str(folder / "main.js"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
