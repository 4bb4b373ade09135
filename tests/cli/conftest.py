from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from edgekit.cli.main import run


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on stderr that says what was wrong."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.err
        return lines[0]


Edgekit = Callable[..., Done]


@pytest.fixture
def edgekit(capsys: pytest.CaptureFixture[str]) -> Edgekit:
    """Run a command in this process."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call
