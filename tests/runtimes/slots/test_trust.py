"""Signed bundles: slots and guarded models take nothing else when keys are given."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import BundleError, EdgekitWarning
from edgekit.runtimes import Guarded, Slots
from tests.runtimes import tiny
from tests.runtimes.slots.conftest import Pair

pytest.importorskip("cryptography", reason="needs the package cryptography: pip install edgekit[sign]")
keys = pytest.importorskip("edgekit.bundle.keys", reason="this version does not sign")
signing = pytest.importorskip("edgekit.bundle.sign", reason="this version does not sign")


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A public key; its private half lies beside it as "key"."""
    keys.generate(tmp_path / "key")
    return tmp_path / "key.pub"


def signed(bundle: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(bundle, tmp_path / bundle.name)
    signing.sign(copy, [tmp_path / "key"])
    return copy


def test_slots_take_what_a_trusted_key_signed_and_keep_its_signature(pair: Pair, public: Path, tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", trusted_keys=[public])
    with pytest.raises(BundleError, match="signed"):
        slots.install(pair.old)
    slots.install(signed(pair.old, tmp_path))
    assert np.array_equal(slots.load(threads=1).logits(tiny.TEXTS), pair.answers["old"])
    slots.confirm()
    with Guarded(slots.current(), threads=1, trusted_keys=[public]) as model:
        assert len(model.run("no")) == 1
    with pytest.raises(BundleError, match="signed"):
        Guarded(pair.new, threads=1, trusted_keys=[public])


def test_one_whose_signature_is_lost_gives_way(pair: Pair, public: Path, tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", trusted_keys=[public])
    slots.install(signed(pair.old, tmp_path))
    slots.confirm()
    slot = slots.install(signed(pair.new, tmp_path))
    listed = set((slot / "manifest.json").read_text().split('"'))
    for one in slot.iterdir():
        if one.is_file() and one.name not in listed | {"manifest.json"}:
            one.unlink()  # the signature: what the manifest does not list
    with pytest.warns(EdgekitWarning, match="signed"):
        assert np.array_equal(slots.load(threads=1).logits(tiny.TEXTS), pair.answers["old"])
