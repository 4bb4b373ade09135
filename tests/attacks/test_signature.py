"""With trusted keys, nothing is loaded that one of them did not sign, byte for byte."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.bundle import open_bundle
from edgekit.bundle.sign import sign
from edgekit.errors import BundleError, EdgekitError, InputError, MissingDependencyError, TrustError
from tests.attacks import tiny
from tests.attacks.conftest import Pair
from tests.attacks.hostile import CASES, Case

pytestmark = pytest.mark.timeout(60)
Keys = dict[str, Pair]


def load(root: Path, keys: Keys, *names: str, release: int | None = None) -> object:
    trusted = [keys[name].public for name in names or ("ours",)]
    return edgekit.load(root, threads=1, trusted_keys=trusted, minimum_release=release)


def refused(root: Path, keys: Keys, *words: str, error: type[EdgekitError] = TrustError) -> None:
    with pytest.raises(error) as caught:
        load(root, keys)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)
    report = edgekit.verify(root, threads=1, trusted_keys=[keys["ours"].public])
    assert not report.ok


def test_what_we_signed_is_loaded(signed: Path, keys: Keys) -> None:
    assert load(signed, keys, release=3) is not None
    bundle = open_bundle(signed, trusted_keys=[keys["theirs"].public, keys["ours"].public.read_bytes()])
    assert len(bundle.signers) == 1
    report = edgekit.verify(signed, 1, trusted_keys=[keys["ours"].public])
    assert report.ok
    assert report.checks[0].name == "signature" and bundle.signers[0] in report.checks[0].detail
    assert edgekit.load(signed, threads=1) is not None, "who asks for no key gets it too"


def test_openssl_agrees(signed: Path, keys: Keys, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    value = json.loads((signed / "signature.json").read_bytes())
    (tmp_path / "raw").write_bytes(base64.b64decode(value["signatures"][0]["signature"]))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", keys["ours"].public]
    command += ["-sigfile", tmp_path / "raw", "-in", signed / "manifest.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in done.stdout, done.stderr


def test_unsigned(root: Path, keys: Keys) -> None:
    refused(root, keys, "is not signed", "edgekit sign")


def test_signed_by_somebody_else(root: Path, keys: Keys) -> None:
    sign(root, [keys["theirs"].private])
    refused(root, keys, "no signature of a trusted key")


def test_their_signature_under_our_key_id(root: Path, keys: Keys) -> None:
    sign(root, [keys["ours"].private])
    ours = json.loads((root / "signature.json").read_bytes())["signatures"][0]["key_id"]
    sign(root, [keys["theirs"].private], overwrite=True)
    rewrite(root, lambda value: value["signatures"][0].update(key_id=ours))
    refused(root, keys, "it is not of this manifest.json")


def test_swapped_engine_file_with_its_own_hash(signed: Path, keys: Keys) -> None:
    path = signed / tiny.manifest_of(signed)["models"][0]["path"]
    path.write_bytes(tiny.text_model(1).SerializeToString())
    tiny.reseal(signed)
    refused(signed, keys, "it is not of this manifest.json")


def test_signature_of_another_bundle(signed: Path, made: dict[str, Path], keys: Keys, tmp_path: Path) -> None:
    for kind, other in made.items():
        copy = Path(shutil.copytree(other, tmp_path / f"other-{kind}.edge"))
        tiny.edit(copy, lambda value: value.update(name="another"))
        shutil.copyfile(signed / "signature.json", copy / "signature.json")
        refused(copy, keys, "it is not of this manifest.json")


def test_an_old_release_that_comes_back(signed: Path, keys: Keys) -> None:
    """A replay: signed by us, and no longer wanted."""
    for release, ok in ((3, True), (4, False)):
        report = edgekit.verify(signed, 1, trusted_keys=[keys["ours"].public], minimum_release=release)
        assert report.ok is ok
    with pytest.raises(TrustError, match="release; found 3; expected 4 or more"):
        load(signed, keys, release=4)


def test_a_release_that_was_raised_by_hand(signed: Path, keys: Keys) -> None:
    tiny.edit(signed, lambda value: value.update(release=9))
    refused(signed, keys, "it is not of this manifest.json")


def test_rotation_and_revocation(root: Path, keys: Keys) -> None:
    sign(root, [keys["ours"].private, keys["new"].private])
    for trusted in (["ours"], ["new"], ["ours", "new"], ["theirs", "new"]):
        assert load(root, keys, *trusted) is not None
    with pytest.raises(TrustError, match="no signature of a trusted key"):
        load(root, keys, "theirs")


def test_one_bad_signature_of_a_trusted_key_is_enough(root: Path, keys: Keys) -> None:
    sign(root, [keys["ours"].private, keys["new"].private])
    rewrite(root, lambda v: v["signatures"][1].update(signature=v["signatures"][0]["signature"]))
    with pytest.raises(TrustError, match="it is not of this"):
        load(root, keys, "ours", "new")
    assert load(root, keys, "ours") is not None, "who does not trust the other does not look at it"


def rewrite(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """signature.json in the form in which edgekit writes it."""
    value = json.loads((root / "signature.json").read_bytes())
    change(value)
    (root / "signature.json").write_text(json.dumps(value, indent=1) + "\n")


REWRITES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no algorithm": (lambda v: v["signatures"][0].update(algorithm="none"), "no signature of a trusted key"),
    "capitals": (lambda v: v["signatures"][0].update(algorithm="Ed25519"), "no signature of a trusted key"),
    "empty signature": (lambda v: v["signatures"][0].update(signature=""), "it is not of this"),
    "zeros": (lambda v: v["signatures"][0].update(signature=base64.b64encode(bytes(64)).decode()), "it is not of this"),
    "not base64": (lambda v: v["signatures"][0].update(signature="é" * 88), "base64"),
    "short": (lambda v: v["signatures"][0].update(signature="QUJD"), "it is not of this"),
    "no signatures": (lambda v: v.update(signatures=[]), "1 to 16"),
    "17 signatures": (lambda v: v.update(signatures=v["signatures"] * 17), "1 to 16"),
    "another field": (lambda v: v.update(note="hello"), "another way of writing it"),
    "future schema": (lambda v: v.update(schema_version=2), "newer edgekit"),
    "a number as id": (lambda v: v["signatures"][0].update(key_id=7), "a string"),
    "signatures as an object": (lambda v: v.update(signatures={}), "a list"),
}
RAW: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: b"", "not valid JSON"),
    "truncated": (lambda data: data[:-30], "not valid JSON"),
    "a space more": (lambda data: data + b" ", "another way of writing it"),
    "a key twice": (lambda data: data.replace(b'"key_id"', b'"key_id": "", "key_id"'), "twice"),
    "a list": (lambda data: b"[" + data + b"]", "an object"),
    "not UTF-8": (lambda data: b"\xff" + data, "UTF-8"),
    "1 MB": (lambda data: data + b" " * 10**6, "at most"),
    "deep": (lambda data: b"[" * 60_000, "deep"),
    "bits that base64 does not use": (lambda data: data.replace(b'=="', b'=" "'), ""),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewritten_signature(signed: Path, keys: Keys, name: str) -> None:
    change, word = REWRITES[name]
    rewrite(signed, change)
    refused(signed, keys, word)


@pytest.mark.parametrize("name", RAW)
def test_other_bytes_as_signature(signed: Path, keys: Keys, name: str) -> None:
    change, word = RAW[name]
    path = signed / "signature.json"
    path.write_bytes(change(path.read_bytes()))
    refused(signed, keys, word)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_cases_do_not_pass_a_signature(made: dict[str, Path], keys: Keys, tmp_path: Path, case: Case) -> None:
    """Each is refused; those that change the manifest, before it is parsed."""
    signed = Path(shutil.copytree(made["text"], tmp_path / "text.edge"))
    sign(signed, [keys["ours"].private])
    before = (signed / "manifest.json").read_bytes()
    case.spoil(signed)
    changed = not (signed / "manifest.json").is_file() or (signed / "manifest.json").read_bytes() != before
    with pytest.raises(BundleError) as caught:
        load(signed, keys)
    if changed and (signed / "manifest.json").is_file() and case.name not in ("json: over 16 MiB",):
        assert isinstance(caught.value, TrustError) or "symbolic link" in str(caught.value)


def test_every_file_with_a_byte_changed_anywhere(signed: Path, keys: Keys) -> None:
    """Every file, at its ends and at many places between them."""
    rng = random.Random(0)
    trusted = [keys["ours"].public]
    for path in sorted(path for path in signed.rglob("*") if path.is_file()):
        data = path.read_bytes()
        places = {0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(40))}
        for place in places:
            damaged = bytearray(data)
            damaged[place] ^= rng.randrange(1, 256)
            path.write_bytes(damaged)
            with pytest.raises(BundleError):
                open_bundle(signed, trusted_keys=trusted)
        for size in {0, 1, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:size])
            with pytest.raises(BundleError):
                open_bundle(signed, trusted_keys=trusted)
        path.write_bytes(data)
    assert open_bundle(signed, trusted_keys=trusted).signers


@pytest.mark.parametrize("trusted", [[], "key.pub", b"-----BEGIN", [b"no key"], ["missing.pub"], ["/dev/null"]])
def test_what_is_no_key(signed: Path, trusted: Any) -> None:
    with pytest.raises(InputError) as caught:
        edgekit.load(signed, trusted_keys=trusted)
    assert type(caught.value) is InputError


def test_a_private_key_is_not_trusted_by_mistake(signed: Path, keys: Keys) -> None:
    with pytest.raises(InputError, match="no public key"):
        edgekit.load(signed, trusted_keys=[keys["ours"].private])


def test_a_signature_without_hashes_means_nothing(signed: Path, keys: Keys) -> None:
    with pytest.raises(InputError, match="check_hashes"):
        edgekit.load(signed, check_hashes=False, trusted_keys=[keys["ours"].public])
    with pytest.raises(InputError, match="minimum_release"):
        edgekit.load(signed, minimum_release=1)


WITHOUT = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cryptography", "socket", "ssl", "urllib", "http"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Wall())
import edgekit
from edgekit.errors import MissingDependencyError
assert edgekit.load(sys.argv[1], threads=1) is not None
try: edgekit.load(sys.argv[1], trusted_keys=[sys.argv[2]])
except MissingDependencyError as error: print(error)
"""


def test_without_the_library(signed: Path, keys: Keys) -> None:
    """The hashes need none; a signature that cannot be checked is not passed over."""
    command = [sys.executable, "-c", WITHOUT, str(signed), str(keys["ours"].public)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "pip install edgekit[sign]" in done.stdout
    assert issubclass(MissingDependencyError, InputError)
