"""``edgekit slots``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtimes import tiny


def test_install_confirm_and_back(edgekit, tmp_path: Path) -> None:
    bundles = [tiny.bundle(tmp_path / f"{seed}.edge", seed) for seed in (0, 1)]
    slots = tmp_path / "slots"

    def told(*arguments: object) -> dict[str, Any]:
        done = edgekit("slots", slots, *arguments, "--format", "json")
        assert done.code == 0, done.err
        return {name: done.json[name] for name in ("current", "fallback", "confirmed")}

    first = {"current": "000001.edge", "fallback": "", "confirmed": False}
    assert told("install", bundles[0]) == first
    assert told("confirm") == {**first, "confirmed": True}
    second = {"current": "000002.edge", "fallback": "000001.edge", "confirmed": False}
    assert told("install", bundles[1]) == second == told("status") == told()
    assert told("rollback") == {**first, "confirmed": True}
    assert "000001.edge" in edgekit("slots", slots, "status").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status"], "no bundle"),
        (["install"], "BUNDLE"),
        (["status", "some.edge"], "BUNDLE"),
        (["install", "none.edge"], "none.edge"),
        (["destroy"], "destroy"),
    ],
)
def test_what_it_refuses(edgekit, arguments: list[str], message: str, tmp_path: Path) -> None:
    done = edgekit("slots", tmp_path / "slots", *arguments)
    assert done.code == 2
    assert message in done.error
