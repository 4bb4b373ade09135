"""Every board file, the loader that reads them, and the machine that they are held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.boards import differences, identify, load, look, names
from edgekit.devices.boards.advice import advise, matches
from edgekit.devices.boards.facts import facts
from edgekit.devices.doctor import board_findings
from edgekit.errors import InputError
from edgekit.runtimes import engines

WANTED = {
    *("pi-zero-2w", "pi3bplus", "pi4", "pi5", "rk3588", "n100"),
    *("jetson-nano", "jetson-xavier-nx", "jetson-orin-nano", "jetson-agx-orin"),
    *(f"pixel{n}" for n in range(6, 10)),
    *(f"galaxy-s{n}" for n in range(22, 26)),
    *(f"iphone{n}" for n in range(12, 17)),
}
# CPU part, features and clock of boards, as their kernels show them.
PI4 = ("0xd08", "fp asimd evtstrm crc32 cpuid", 1500)
NEWER = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
PI5 = ("0xd0b", NEWER, 2400)


def machine(
    root: Path, model: str, compatible: str, cores: list[tuple[str, str, int]], memory_kb: int = 3_884_368
) -> Path:
    """A /proc and /sys below ``root``."""
    blocks = [
        f"processor\t: {i}\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
        for i, (part, features, _) in enumerate(cores)
    ]
    files = {
        "proc/cpuinfo": "\n".join(blocks) + f"\nRevision\t: c03114\nModel\t\t: {model}\n",
        "proc/meminfo": f"MemTotal: {memory_kb} kB\n",
        "proc/device-tree/model": model + "\0",
        "proc/device-tree/compatible": compatible.replace(" ", "\0") + "\0",
    }
    files |= {
        f"sys/devices/system/cpu/cpu{i}/cpufreq/cpuinfo_max_freq": f"{mhz * 1000}\n"
        for i, (_, _, mhz) in enumerate(cores)
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def pi(root: Path, which: str, count: int = 4, **changes: object) -> Path:
    part, features, mhz = {"pi4": PI4, "pi5": PI5}[which]
    core = (str(changes.get("part", part)), str(changes.get("features", features)), int(str(changes.get("mhz", mhz))))
    model = {"pi4": "Raspberry Pi 4 Model B Rev 1.4", "pi5": "Raspberry Pi 5 Model B Rev 1.0"}[which]
    tree = {"pi4": "raspberrypi,4-model-b brcm,bcm2711", "pi5": "raspberrypi,5-model-b brcm,bcm2712"}[which]
    return machine(root, model, tree, [core] * count)


def test_all_boards_are_there() -> None:
    assert set(names()) == WANTED


@pytest.mark.parametrize("key", sorted(WANTED))
def test_board_file(key: str) -> None:
    board = load(key)
    assert board.key == key and board.cores >= 2
    assert board.architecture == ("x86_64" if key == "n100" else "aarch64")
    assert all(engine.name in engines.known() for engine in board.engines) and board.engines
    for fault in board.faults:
        assert fault.instead and any(board.sources[one].get("url") for one in fault.sources), "a fault has a thread"
        matches("1.2.3", fault.versions)
    lines = facts(board)
    assert all(line.value and line.source for line in lines)
    assert (board.identity is not None) == (board.kind == "board")


def test_identities_are_of_one_board_each() -> None:
    found: dict[str, str] = {}
    for key in names():
        identity = load(key).identity
        for one in identity.compatible if identity else []:
            assert found.setdefault(one, key) == key


@pytest.mark.parametrize("which", ["pi4", "pi5"])
def test_a_pi_knows_itself(tmp_path: Path, which: str) -> None:
    seen = look(pi(tmp_path, which), "aarch64")
    board = identify(seen)
    assert board is not None and board.key == which
    assert differences(board, seen) == []


def test_by_its_model_alone(tmp_path: Path) -> None:
    root = pi(tmp_path, "pi4")
    (root / "proc/device-tree/compatible").unlink()
    board = identify(look(root, "aarch64"))
    assert board is not None and board.key == "pi4"
    (root / "proc/device-tree/model").unlink()
    found = identify(look(root, "aarch64"))
    assert found is not None and found.key == "pi4", "by /proc/cpuinfo"


def test_the_shared_cpuinfo_of_pis(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "targets"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    for which in ("pi4", "pi5"):
        root = pi(tmp_path / which, which)
        model = (root / "proc/device-tree/model").read_text()
        (root / "proc/cpuinfo").write_text((folder / f"cpuinfo.{which}").read_text() + f"\nModel : {model}\n")
        seen = look(root, "aarch64")
        board = identify(seen)
        assert board is not None and board.key == which
        assert {one.fact for one in differences(board, seen)} <= {"cores", "CPU parts"}, "they show two processors"


DIFFERENT = {
    "cores": {"count": 2},
    "CPU parts": {"part": "0xd03"},
    "instruction set": {"features": "fp asimd"},
    "highest clock": {"mhz": 1800},
}


@pytest.mark.parametrize("fact", DIFFERENT)
def test_what_differs_is_named(tmp_path: Path, fact: str) -> None:
    seen = look(pi(tmp_path, "pi4", **DIFFERENT[fact]), "aarch64")
    board = identify(seen)
    assert board is not None
    assert fact in [one.fact for one in differences(board, seen)]


def test_memory_and_architecture_that_differ(tmp_path: Path) -> None:
    core = ("0xd03", "fp asimd evtstrm crc32 cpuid", 1000)
    zero = machine(tmp_path / "a", "Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w", [core] * 4, 426_000)
    seen = look(zero, "aarch64")
    board = identify(seen)
    assert board is not None and differences(board, seen) == []
    small = machine(tmp_path / "b", "Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w", [core] * 4, 200_000)
    assert [one.fact for one in differences(board, look(small, "armv7l"))] == ["architecture", "memory"]


def test_two_kinds_of_cores(tmp_path: Path) -> None:
    cores = [("0xd05", PI5[1], 1800)] * 4 + [("0xd0b", PI5[1], 2400)] * 4
    seen = look(machine(tmp_path, "Xunlong Orange Pi 5", "xunlong,orangepi-5 rockchip,rk3588s", cores), "aarch64")
    board = identify(seen)
    assert board is not None and board.key == "rk3588"
    assert differences(board, seen) == []


def test_an_x86_box(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    block = "processor : {}\nmodel name : Intel(R) N100\nflags : fpu avx2 avx_vnni\n"
    (tmp_path / "proc/cpuinfo").write_text("\n".join(block.format(i) for i in range(4)))
    seen = look(tmp_path, "x86_64")
    board = identify(seen)
    assert board is not None and board.key == "n100"
    assert differences(board, seen) == []


@pytest.mark.parametrize("text", [None, "", "processor : 0\n", "\xff\xfe" * 40, "model name : Pentium\nprocessor: 0"])
def test_what_is_no_board(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(text)
    assert identify(look(tmp_path)) is None
    assert board_findings({}, tmp_path) == []


def test_the_doctor_names_what_breaks_here(tmp_path: Path) -> None:
    root = pi(tmp_path, "pi4")
    bad = board_findings({"onnxruntime": "1.21.0"}, root, "aarch64")
    (broken,) = [one for one in bad if not one.ok]
    assert broken.name == "onnxruntime" and "illegal instruction" in broken.detail and "https://" in broken.detail
    assert broken.fix == "pip install onnxruntime==1.31.1"
    good = board_findings({"onnxruntime": "1.31.1"}, root, "aarch64")
    assert all(one.ok for one in good) and good[0].detail == "Raspberry Pi 4 Model B"
    none = board_findings({}, root, "aarch64")
    assert any("pip install onnxruntime==1.31.1" in one.fix for one in none), "what to install"


def test_a_32_bit_system_is_told(tmp_path: Path) -> None:
    found = board_findings({"tflite-runtime": "2.14.0"}, pi(tmp_path, "pi4"), "armv7l")
    assert [one.fix for one in found if not one.ok] == [load("pi4").faults[2].instead]
    assert "architecture: its file says aarch64, here armv7l" in found[0].detail


def test_advice_without_faults_says_the_board(tmp_path: Path) -> None:
    seen = look(pi(tmp_path, "pi5"), "aarch64")
    first, *others = advise(load("pi5"), seen, {"onnxruntime": "1.21.0"})
    assert first.detail == "Raspberry Pi 5"
    assert all(one.ok for one in others), "1.21.0 dies on processors without atomics alone"


@pytest.mark.parametrize(
    ("version", "spec", "fits"),
    [
        ("1.21.0", "==1.21.0", True),
        ("1.21", "==1.21.0", True),
        ("1.21.1", "==1.21.0", False),
        ("1.21.0", ">=1.20,<1.22", True),
        ("1.9.0", "<1.21", True),
        ("2023.1.0", "<2023.1", False),
        ("2.13.0+cpu", ">2.12", True),
        ("1", "", True),
    ],
)
def test_versions(version: str, spec: str, fits: bool) -> None:
    assert matches(version, spec) is fits


GOOD = """schema_version = 1
name = "X"
kind = "board"
architecture = "aarch64"
[[socs]]
name = "Y"
sources = ["a"]
[[socs.cores]]
name = "Z"
count = 4
sources = ["a"]
[sources]
a = { title = "T", url = "https://example.org" }
"""
WRONG = {
    "not TOML": (GOOD + "[[", "cannot be read"),
    "a key that is not known": (GOOD.replace("count = 4", "count = 4\nclock = 5"), "clock"),
    "an unknown kind": (GOOD.replace('"board"', '"fridge"'), "kind"),
    "an unknown architecture": (GOOD.replace("aarch64", "z80"), "architecture"),
    "a fact without a source": (GOOD.replace('count = 4\nsources = ["a"]', "count = 4\nsources = []"), "no sources"),
    "a source that is not listed": (GOOD.replace('sources = ["a"]', 'sources = ["b"]', 1), "b: used and not listed"),
    "a source that is not used": (GOOD + 'c = { title = "T" }\n', "c: used and not listed, or listed and not used"),
    "an address that is none": (GOOD.replace("https://", "file:///"), "https"),
    "a source without a title": (GOOD.replace('title = "T"', 'title = ""'), "title"),
    "no cores": (GOOD.replace("count = 4", "count = 0"), "cores"),
    "a text for a number": (GOOD.replace("count = 4", 'count = "4"'), "an integer"),
    "nothing": ("", "this field"),
    "another schema": (GOOD.replace("schema_version = 1", "schema_version = 2"), "schema_version"),
}


def test_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(GOOD)
    assert load("x", tmp_path).name == "X"


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_named(tmp_path: Path, case: str) -> None:
    text, word = WRONG[case]
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(InputError, match=word) as caught:
        load("x", tmp_path)
    assert "x.toml" in str(caught.value)


def test_an_unknown_board() -> None:
    with pytest.raises(InputError, match="pi5"):
        load("../pi5")


def test_board_files_are_packaged(root: Path) -> None:
    assert '"edgekit.devices.boards" = ["*.toml"]' in (root / "pyproject.toml").read_text()
