"""The engines of the page: files of npm packages, pinned to a version and to their sha256. None is part of edgekit."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.cache import cache_dir
from edgekit.errors import InputError, MissingDependencyError
from edgekit.progress import Progress, Silent


@dataclass(frozen=True)
class Package:
    """An npm package: ``files`` are the paths that the page takes from it, and their sha256."""

    name: str
    version: str
    files: dict[str, str]

    @property
    def spec(self) -> str:
        """As npm takes it."""
        return f"{self.name}@{self.version}"

    @property
    def tarball(self) -> str:
        """What ``npm pack`` calls its file."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


PACKAGES = (
    Package(
        "onnxruntime-web",
        "1.30.0",
        {
            "dist/ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
            "dist/ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
            "dist/ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
        },
    ),
    Package(
        "@litertjs/core",
        "2.5.3",
        {
            "dist/index.js": "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
            "wasm/litert_wasm_internal.js": "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb",
            "wasm/litert_wasm_internal.wasm": "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614",
            "wasm/litert_wasm_compat_internal.js": "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
            "wasm/litert_wasm_compat_internal.wasm": "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
            "wasm/litert_wasm_threaded_internal.js": "92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849",
            "wasm/litert_wasm_threaded_internal.wasm": (
                "b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf"
            ),
        },
    ),
    Package(
        "@litertjs/wasm-utils",
        "2.5.3",
        {"dist/index.js": "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2"},
    ),
)
ENGINES = {"onnxruntime-web": ("onnxruntime", PACKAGES[:1]), "litert-web": ("litert", PACKAGES[1:])}
# Import maps do not reach workers, where the engines run, so the one bare name among the imports gets an address.
_BARE, _PLACE = b'from "@litertjs/wasm-utils"', b'from "/engines/@litertjs/wasm-utils/dist/index.js"'
_MINUTES = 5  # for npm to fetch 45 MB

Fetch = Callable[[Package, Path], Path]


@dataclass(frozen=True)
class WebFiles:
    """Checked engine files below ``root``; each has a ``.gz`` beside it."""

    root: Path

    def path(self, name: str) -> Path | None:
        """The file behind ``PACKAGE/PATH`` as the page asks for it; None for any other name."""
        known = name in _names()
        return self.root / name if known else None

    def size(self, names: list[str]) -> int:
        """Bytes of ``names`` as they are sent, compressed."""
        return sum((self.root / f"{name}.gz").stat().st_size for name in names)


def open_web_files(folder: Path | None = None, progress: Progress = Silent(), fetch: Fetch | None = None) -> WebFiles:
    """The engines' files in the cache, where they come from ``folder`` or else, once, from the npm registry.

    ``folder`` holds the packages as npm installs them (``onnxruntime-web/dist/...``), or the tarballs that ``npm pack``
    writes. ``fetch``: what brings a tarball, :func:`npm_pack` unless given. Each file must have its pinned sha256.
    Raises ``InputError`` for other files, ``MissingDependencyError`` where npm is missing or cannot fetch.
    """
    root = cache_dir() / "web" / hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:16]
    missing = [package for package in PACKAGES if not all(_is_there(root, package, path) for path in package.files)]
    if missing:
        handle = progress.start("web engines", len(missing))
        for package in missing:
            for path, data in _contents(package, folder, fetch or npm_pack).items():
                _store(root / package.name / path, data, package.files[path], f"{package.spec}: {path}")
            progress.advance(handle, note=package.spec)
        progress.finish(handle)
    return WebFiles(root)


def npm_pack(package: Package, out: Path) -> Path:
    """Have npm fetch ``package`` from the registry that it is set to. Raises ``MissingDependencyError``."""
    fix = f"Install npm, or fetch {package.spec} elsewhere with `npm pack` and name its folder: --web-engines FOLDER."
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependencyError("npm, which fetches the page's engines", found="not installed", fix=fix)
    command = [npm, "pack", package.spec, "--ignore-scripts", "--silent", "--pack-destination", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * _MINUTES, check=False, cwd=out)
        told = done.stderr.strip()[-300:] or f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        told = f"no answer in {_MINUTES} minutes"
    if not (out / package.tarball).is_file():
        raise MissingDependencyError(f"npm could not fetch {package.spec}", found=" ".join(told.split()), fix=fix)
    return out / package.tarball


def _contents(package: Package, folder: Path | None, fetch: Fetch) -> dict[str, bytes]:
    """The package's files, by their paths in it."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="edgekit-web-") as held:
            return _unpacked(package, fetch(package, Path(held)))
    if (folder / package.name).is_dir():
        return {path: _read(folder / package.name / path) for path in package.files}
    tarball = folder / package.tarball
    if not tarball.is_file():
        raise InputError(
            f"--web-engines {folder}",
            found=f"neither {package.name}/ nor {package.tarball}",
            expected=package.spec,
            fix=f"Run `npm pack {package.spec}` there.",
        )
    return _unpacked(package, tarball)


def _unpacked(package: Package, tarball: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(tarball, "r:gz") as opened:
            return {path: _member(opened, path) for path in package.files}
    except (OSError, EOFError, KeyError, zlib.error, tarfile.TarError) as error:
        raise InputError(f"{tarball.name} cannot be read", found=str(error)[:200], expected="what npm packs") from None


def _member(opened: tarfile.TarFile, path: str) -> bytes:
    file = opened.extractfile(f"package/{path}")
    if file is None:
        raise KeyError(f"{path} is no file")
    return file.read()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read", found=error.strerror, expected="the pinned package") from None


def _store(path: Path, data: bytes, expected: str, what: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise InputError(what, found=f"sha256 {found}", expected=expected, fix="Take the version that is named.")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path.with_name(path.name + ".gz"), gzip.compress(data.replace(_BARE, _PLACE), 6, mtime=0))
    _write(path, data)  # last: who finds it finds its .gz too


def _write(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(data)
    os.replace(part.name, path)


def _is_there(root: Path, package: Package, path: str) -> bool:
    file = root / package.name / path
    try:
        with open(file, "rb") as opened:
            same = hashlib.file_digest(opened, "sha256").hexdigest() == package.files[path]
        return same and file.with_name(file.name + ".gz").is_file()
    except OSError:
        return False


def _names() -> set[str]:
    return {f"{package.name}/{path}" for package in PACKAGES for path in package.files}
