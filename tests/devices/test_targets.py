"""Targets without a board: this machine behind a scripted ssh, with a runtime that borrows the packages here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bundle import open_bundle, write
from edgekit.cli.main import run
from edgekit.devices import emulated
from edgekit.devices.targets import open_target, transfer
from edgekit.devices.targets.address import Address, parse
from edgekit.devices.targets.process import Done, Heard, Step
from edgekit.devices.targets.ssh import failure
from edgekit.devices.targets.target import Local
from edgekit.errors import EdgekitError, HostKeyError, InputError, TargetError
from edgekit.progress import Silent
from tests.fake_board import FakeBoard, changed


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    return FakeBoard(tmp_path, monkeypatch)


@pytest.mark.slow
def test_one_deployment_after_the_other(
    board: FakeBoard, small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert board.deploy(small_bundle, "--format", "json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["ok"] and first["changed"] and first["state"]["current"] == "000001.edge"
    assert {check["name"] for check in first["checks"]} >= {"manifest", "tokenizer", "outputs models/fp32.onnx"}
    assert first["sent_bytes"] > (small_bundle / "models/fp32.onnx").stat().st_size
    assert board.slots.load().run("a charming film").labels, "what was sent runs"
    again = board.deploy(small_bundle, "--format", "json")
    second = json.loads(capsys.readouterr().out)
    assert again == 0 and not second["changed"] and second["sent_bytes"] == 0
    assert board.deploy(changed(small_bundle, tmp_path / "two.edge"), "--format", "json") == 0
    third = json.loads(capsys.readouterr().out)
    assert (third["state"]["current"], third["state"]["fallback"]) == ("000002.edge", "000001.edge")
    assert third["sent_files"] == 2 and 0 < third["sent_bytes"] < 20_000, "the manifest and the page, no model"
    before, three = board.tree(), changed(small_bundle, tmp_path / "three.edge")
    assert board.deploy(three) == 2
    assert "not confirmed by the application" in capsys.readouterr().err and board.tree() == before
    assert board.deploy(three, "--confirm") == 0
    state = board.slots.status()
    assert state is not None and state.confirmed and (state.current, state.fallback) == ("000003.edge", "000002.edge")
    asked = (tmp_path / "log").read_text()
    assert "BatchMode=yes" in asked and "pi@board" in asked and "StrictHostKeyChecking" not in asked


class Cut(Silent):
    """Ends the deployment at its ``at``-th word."""

    def __init__(self, at: int) -> None:
        self.left = at

    def say(self, line: str) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_what_goes_wrong_leaves_the_board_as_it_was(
    board: FakeBoard, small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgekit.devices.targets.deploy import deploy

    assert board.deploy(small_bundle, "--confirm") == 0
    before, new = board.tree(), changed(small_bundle, tmp_path / "new.edge")
    for at in range(1, 5):  # connecting, runtime, files, verifying: after that the slots' own tests go on
        with pytest.raises(KeyboardInterrupt), open_target(board.target) as target:
            deploy(new, target, wheels=board.wheels, progress=Cut(at))
        assert board.tree() == before
    wrong, opened = tmp_path / "wrong.edge", open_bundle(small_bundle)
    files: dict[str, Path | bytes] = {entry.path: small_bundle / entry.path for entry in opened.manifest.files}
    golden = json.loads(json.dumps(opened.manifest.golden))
    golden["texts"] = [*golden["texts"][1:], golden["texts"][0]]
    write(wrong, replace(opened.manifest, golden=golden), files)
    assert board.deploy(wrong) == 4
    assert "not deployed" in capsys.readouterr().err and board.tree() == before


@pytest.mark.slow
def test_signatures_are_checked_there(board: FakeBoard, small_bundle: Path, tmp_path: Path) -> None:
    signed, key = tmp_path / "signed.edge", tmp_path / "key"
    shutil.copytree(small_bundle, signed)
    assert run(["keygen", str(key)]) == 0 and run(["sign", str(signed), "--key", str(key), "--release", "3"]) == 0
    assert board.deploy(small_bundle, "--key", f"{key}.pub") == 4, "not signed"
    assert board.deploy(signed, "--key", f"{key}.pub", "--minimum-release", "4") == 4, "too old"
    assert board.deploy(signed, "--key", f"{key}.pub", "--minimum-release", "3") == 0
    assert board.slots.current().joinpath("signature.json").exists()


def test_a_board_of_another_architecture_is_refused(
    board: FakeBoard, small_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("setarch") is None or os.uname().machine != "x86_64":
        pytest.skip("needs setarch on x86-64")
    board.answers("setarch i686")
    assert board.deploy(small_bundle) == 2
    assert "architecture; found i686" in capsys.readouterr().err
    assert not (board.home / "edgekit").exists()


def test_a_board_without_python_is_told(
    board: FakeBoard, small_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (board.home / "uname").write_text("#!/bin/sh\necho Linux armv7l\n")
    (board.home / "uname").chmod(0o755)
    shell = shutil.which("sh")
    board.ssh.write_text(f'#!{shell}\nfor last; do :; done\nPATH={board.home} exec {shell} -c "$last"\n')  # uname alone
    assert board.deploy(small_bundle) == 2
    err = capsys.readouterr().err
    assert "Python; found Linux armv7l" in err and "expected 3.11 or newer" in err


def test_space_is_asked_for_first(
    board: FakeBoard, small_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer, "SPARE", 1 << 60)
    assert board.deploy(small_bundle) == 2
    err = capsys.readouterr().err
    assert "space for small.edge" in err and "--directory" in err
    assert not (board.home / "edgekit/apps").exists()


class Lossy(Local):
    """A connection that flips a bit on its way."""

    def run(
        self, command: str, feed: Iterable[bytes] = (), heard: Heard | None = None, step: Step | None = None
    ) -> Done:
        flipped = (piece[:-1] + bytes([piece[-1] ^ 1]) if len(piece) > 5000 else piece for piece in feed)
        return super().run(command, flipped, heard, step)


def test_what_arrives_otherwise_is_not_kept(board: FakeBoard, small_bundle: Path, tmp_path: Path) -> None:
    files = {"tokenizer.json": small_bundle / "tokenizer.json"}
    plan = transfer.compare(Lossy(), str(tmp_path / "there"), files)
    assert plan.missing == ["tokenizer.json"]
    with pytest.raises(TargetError, match="another sha256"):
        transfer.send(Lossy(), plan, "files")
    assert not (tmp_path / "there/tokenizer.json").exists()


def test_only_what_differs_is_sent(board: FakeBoard, tmp_path: Path) -> None:
    for name, text in {
        "here/a": "one",
        "here/deep/b": "two",
        "near/deep/b": "two",
        "there/a": "One",
        "there/x": "old",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    files = {"a": tmp_path / "here/a", "deep/b": tmp_path / "here/deep/b"}
    plan = transfer.compare(Local(), str(tmp_path / "there"), files, [f"{tmp_path}/n*r"])
    assert plan.missing == ["a"], "of the same size, and another; b lies near"
    transfer.send(Local(), plan, "files")
    assert sorted(one.name for one in (tmp_path / "there").rglob("*")) == ["a", "b", "deep"]
    assert (tmp_path / "there/a").read_text() == "one" and Local().fetch(str(tmp_path / "there/deep/b")) == b"two"


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_no_text_becomes_an_option_of_ssh(text: str) -> None:
    try:
        found = parse(text)
    except InputError:
        return
    assert found is None or not any(one.startswith("-") for one in found.arguments if one != "-p")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://pi@raspberrypi.local", Address("raspberrypi.local", "pi")),
        ("ssh://board:2222", Address("board", port=2222)),
        ("ssh://me@[fe80::1%eth0]:22", Address("fe80::1%eth0", "me", 22)),
        ("local", None),
    ],
)
def test_addresses(text: str, address: Address | None) -> None:
    assert parse(text) == address and (address is None or str(address) == text)


@pytest.mark.parametrize(
    "text", ["pi@host", "ssh://", "ssh://-oProxyCommand=x", "ssh://a:b@host", "ssh://h:0", "ssh://h:99999"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="local or ssh://user@host"):
        parse(text)


@pytest.mark.parametrize(
    ("told", "kind", "fix"),
    [
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in /x:3\nHost key verification "
         "failed.", HostKeyError, "ssh-keygen -R '[b]:22'"),
        ("No ED25519 host key is known for b\nHost key verification failed.", HostKeyError, "compare the fingerprint"),
        ("pi@b: Permission denied (publickey).", TargetError, "ssh-copy-id -p 22 pi@b"),
        ("ssh: connect to host b port 22: Connection refused", TargetError, "raspi-config"),
        ("client_loop: send disconnect: Broken pipe", TargetError, "goes on where it was"),
        ("", TargetError, "goes on where it was"),
    ],
)  # fmt: skip
def test_what_ssh_says_becomes_an_error(told: str, kind: type[EdgekitError], fix: str) -> None:
    error = failure(Address("b", "pi", 22), told)
    assert type(error) is kind and fix in str(error) and error.exit_code == 2


def test_a_profile_of_an_emulated_machine_holds_no_time() -> None:
    kept = {"engine": "litert", "file": "a", "threads": 1, "rss_mb": 50.0}
    row = {**kept, "p50_ms": 3.0, "samples_ms": [3.0], "cpu_ms": 3.0, "utilisation": 1.0}
    given = {"basis": "measured", "rows": [row], "choice": {"why": "3.00 ms", "engine": "x", "file": "y", "threads": 2}}
    found = emulated.without_times(given)
    assert found["basis"] == "emulated" and found["choice"]["why"] == "emulated: no timing"
    assert {key: value for key, value in found["rows"][0].items() if value} == kept


def test_emulation_can_be_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert emulated.emulation() == ""
    monkeypatch.setenv("EDGEKIT_EMULATED", "a simulator")
    assert emulated.emulation() == "a simulator"
