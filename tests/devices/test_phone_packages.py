"""The page's engines: pinned, checked, taken from a folder, from tarballs, or fetched by npm."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from edgekit.devices.browser import packages
from edgekit.devices.browser.packages import Package, open_web_files
from edgekit.errors import InputError, MissingDependencyError

FILES = {"dist/a.js": b'import { x } from "@litertjs/wasm-utils";\n' * 3, "wasm/b.wasm": b"\0asm" * 100}


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Package:
    """A small package in place of the real ones, and a cache of this test's own."""
    found = Package("@some/one", "1.2.3", {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()})
    monkeypatch.setattr(packages, "PACKAGES", (found,))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return found


def tarball(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            opened.addfile(entry, io.BytesIO(data))
    return path


def never(package: Package, out: Path) -> Path:
    raise AssertionError("fetched, though it was there")


def test_the_pins_are_whole() -> None:
    for package in packages.PACKAGES:
        assert package.version[0].isdigit() and package.files
        assert all(len(digest) == 64 and int(digest, 16) for digest in package.files.values())
    assert [package.tarball for package in packages.PACKAGES][1] == "litertjs-core-2.5.3.tgz"


def test_fetched_once(package: Package, tmp_path: Path) -> None:
    fetched = []

    def fetch(wanted: Package, out: Path) -> Path:
        fetched.append(wanted.spec)
        return tarball(out / wanted.tarball, FILES)

    first = open_web_files(fetch=fetch)
    second = open_web_files(fetch=never)
    assert fetched == ["@some/one@1.2.3"] and first == second
    path = second.path("@some/one/wasm/b.wasm")
    assert path is not None and path.read_bytes() == FILES["wasm/b.wasm"]
    sent = gzip.decompress(path.with_name("b.wasm.gz").read_bytes())
    assert sent == FILES["wasm/b.wasm"] and second.path("@some/one/../x") is None
    script = gzip.decompress((second.root / "@some/one/dist/a.js.gz").read_bytes())
    assert b'"/engines/@litertjs/wasm-utils/dist/index.js"' in script and b'"@litertjs/wasm-utils"' not in script
    path.write_bytes(b"\0asn" * 100)  # damage in the cache is found, and mended
    open_web_files(fetch=fetch)
    assert len(fetched) == 2 and path.read_bytes() == FILES["wasm/b.wasm"]


def test_from_a_folder_of_packages_or_of_tarballs(package: Package, tmp_path: Path) -> None:
    installed, packed = tmp_path / "node_modules", tmp_path / "packed"
    for name, data in FILES.items():
        (installed / package.name / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / package.name / name).write_bytes(data)
    packed.mkdir()
    tarball(packed / package.tarball, FILES)
    for folder in (installed, packed):
        found = open_web_files(folder, fetch=never)
        assert found.path("@some/one/dist/a.js") is not None
        (found.root / package.name / "dist/a.js").unlink()  # so that the second is looked into as well


def test_other_contents_are_refused(package: Package, tmp_path: Path) -> None:
    tarball(tmp_path / package.tarball, {**FILES, "wasm/b.wasm": b"else"})
    with pytest.raises(InputError, match=r"wasm/b\.wasm; found sha256"):
        open_web_files(tmp_path)
    tarball(tmp_path / package.tarball, {"dist/a.js": FILES["dist/a.js"]})
    with pytest.raises(InputError, match="cannot be read"):
        open_web_files(tmp_path)
    (tmp_path / package.tarball).write_bytes(b"no tar")
    with pytest.raises(InputError, match="cannot be read"):
        open_web_files(tmp_path)
    (tmp_path / package.tarball).unlink()
    with pytest.raises(InputError, match=r"npm pack @some/one@1\.2\.3"):
        open_web_files(tmp_path)


def test_without_npm_the_error_says_what_to_do(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="--web-engines"):
        open_web_files()


def test_npm_that_fails_is_told(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no such registry' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MissingDependencyError, match="no such registry"):
        open_web_files()
