"""``edgekit devices``: the list, one board, this machine."""

from __future__ import annotations

from pathlib import Path

from tests.devices.test_boards import WANTED, pi


def test_list(edgekit) -> None:
    done = edgekit("devices", "--format", "json")
    assert {board["key"] for board in done.json["boards"]} == WANTED
    assert done.json["local"]["usable_cpus"] >= 1
    table = edgekit("devices").out
    assert "pi5" in table and "Broadcom BCM2712" in table


def test_show(edgekit) -> None:
    out = edgekit("devices", "show", "pi5").out
    for word in ("Raspberry Pi 5", "4 x Cortex-A76 at 2400 MHz", "17 GB/s", "slows down at 80 C", "https://github.com"):
        assert word in out
    board = edgekit("devices", "show", "pi4", "--format", "json").json["board"]
    assert board["socs"][0]["cores"][0]["part"] == "0xd08"
    assert set(board["sources"]) >= set(board["memory"]["sources"])


def test_show_names_what_it_does_not_know(edgekit) -> None:
    done = edgekit("devices", "show", "pi6")
    assert done.code == 2 and "pi5" in done.error
    for wrong in (["show"], ["probe", "pi5"], ["sing"]):
        assert edgekit("devices", *wrong).code == 2


def test_probe(edgekit, tmp_path: Path) -> None:
    found = edgekit("devices", "probe", "--root", pi(tmp_path, "pi4", mhz=1800), "--format", "json").json
    assert found["board"] == "pi4"
    differ = {one["fact"]: (one["file"], one["here"]) for one in found["differences"]}
    assert differ["highest clock"] == ("1500 MHz", "1800 MHz")
    here = edgekit("devices", "probe", "--format", "json")
    assert here.code == 0 and here.json["local"]["cpus"] >= 1
