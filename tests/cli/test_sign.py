"""``edgekit keygen``, ``sign`` and ``verify --key``."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the package cryptography: pip install edgekit[sign]")


@pytest.fixture
def copy(small_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "copy.edge"))


@pytest.fixture
def key(edgekit, tmp_path: Path) -> Path:
    assert edgekit("keygen", tmp_path / "maker").code == 0
    return tmp_path / "maker"


def test_keys_are_private_and_never_overwritten(edgekit, tmp_path: Path) -> None:
    path = tmp_path / "maker"
    made = edgekit("keygen", path, "--format", "json").json
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert Path(made["public"]).read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    before = path.read_bytes()
    again = edgekit("keygen", path)
    assert again.code == 2 and "exists already" in again.error
    path.unlink()
    assert edgekit("keygen", path).code == 2, "the public one is still there"
    assert not path.exists()
    (tmp_path / "maker.pub").unlink()
    path.write_bytes(before)
    assert edgekit("keygen", path).code == 2
    assert path.read_bytes() == before and not (tmp_path / "maker.pub").exists()


def test_sign_and_verify(edgekit, copy: Path, key: Path) -> None:
    public = f"{key}.pub"
    unsigned = edgekit("verify", copy, "--key", public, "--format", "json")
    assert unsigned.code == 4
    assert unsigned.json["checks"][-1]["name"] == "signature"
    signed = edgekit("sign", copy, "--key", key, "--release", "7", "--format", "json")
    assert signed.code == 0
    (signature,) = signed.json["signatures"]
    assert json.loads((copy / "manifest.json").read_bytes())["release"] == 7
    done = edgekit("verify", copy, "--key", public, "--minimum-release", "7", "--format", "json")
    assert done.code == 0
    assert done.json["checks"][0]["name"] == "signature"
    assert signature["key_id"] in done.json["checks"][0]["detail"]
    old = edgekit("verify", copy, "--key", public, "--minimum-release", "8")
    assert old.code == 4 and "signature" in old.err
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy.edge", "maker", "maker.pub"], "no leftovers"


def test_sign_again(edgekit, copy: Path, key: Path) -> None:
    assert edgekit("sign", copy, "--key", key, "--release", "2").code == 0
    assert "signed already" in edgekit("sign", copy, "--key", key).error
    assert "2 or more" in edgekit("sign", copy, "--key", key, "--overwrite", "--release", "1").error
    assert edgekit("sign", copy, "--key", key, "--overwrite", "--release", "3").code == 0
    assert edgekit("verify", copy, "--key", f"{key}.pub", "--minimum-release", "3").code == 0


def test_what_is_unknown_in_a_manifest_stays(edgekit, copy: Path, key: Path) -> None:
    value = json.loads((copy / "manifest.json").read_bytes())
    (copy / "manifest.json").write_text(json.dumps({**value, "of_tomorrow": {"x": [1, "é"]}}))
    assert edgekit("sign", copy, "--key", key, "--release", "1").code == 0
    assert json.loads((copy / "manifest.json").read_bytes())["of_tomorrow"] == {"x": [1, "é"]}
    assert edgekit("verify", copy, "--key", f"{key}.pub").code == 0


def test_a_damaged_bundle_is_not_signed(edgekit, copy: Path, key: Path) -> None:
    (copy / "recipe.yaml").write_bytes(b"other")
    assert "recipe.yaml" in edgekit("sign", copy, "--key", key).error
    assert not (copy / "signature.json").exists()


def test_passphrase(edgekit, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "secret"
    assert "no terminal" in edgekit("keygen", key, "--passphrase").error
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "correct horse")
    assert edgekit("keygen", key, "--passphrase").code == 0
    assert b"ENCRYPTED" in key.read_bytes()
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "wrong")
    assert "wrong passphrase" in edgekit("sign", copy, "--key", key).error
    monkeypatch.delenv("EDGEKIT_PASSPHRASE")
    assert "no terminal" in edgekit("sign", copy, "--key", key).error
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "correct horse")
    assert edgekit("sign", copy, "--key", key).code == 0
    assert edgekit("verify", copy, "--key", f"{key}.pub").code == 0


def test_what_cannot_sign(edgekit, copy: Path, key: Path, tmp_path: Path) -> None:
    key.chmod(0o644)
    assert "chmod 600" in edgekit("sign", copy, "--key", key).error
    key.chmod(0o600)
    assert "each once" in edgekit("sign", copy, "--key", key, "--key", key).error
    assert "cannot be read" in edgekit("sign", copy, "--key", tmp_path / "none").error
    public = tmp_path / "public"
    shutil.copyfile(f"{key}.pub", public)
    public.chmod(0o600)
    assert "no private key" in edgekit("sign", copy, "--key", public).error
    assert "release" in edgekit("sign", copy, "--key", key, "--release", "0").error
    assert edgekit("verify", copy, "--minimum-release", "1").code == 2
