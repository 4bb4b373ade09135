"""What the board's own Python runs before any package is there: standard library only, sent along with the command.

The first line of standard input is a job in JSON, what follows is for the job; the answer is the last line, in JSON.
Lines before it say that the work goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import struct
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
_told = [0.0]


def going() -> None:
    """Say so, once a second at most: whoever waits gives up after a long silence."""
    now = time.monotonic()
    if now >= _told[0] + 1:
        _told[0] = now
        print("{}", flush=True)


def facts(job: dict[str, Any]) -> dict[str, Any]:
    """What a deployment must know of this machine; ``free`` bytes where the folder ``job["root"]`` is or will be."""
    root = Path(os.path.expanduser("~"), job["root"])
    return {
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "python": list(sys.version_info[:3]),
        "libc": list(platform.libc_ver()),
        "root": str(root),
        "free": _free(root),
        "name": platform.node(),
    }


def missing(job: dict[str, Any]) -> dict[str, Any]:
    """Which of ``job["files"]`` (name -> sha256, bytes) ``job["root"]`` lacks. What it holds beside them is removed.

    A file that lies in one of the folders ``job["look"]`` (patterns) is copied from there.
    """
    root, files, used = Path(job["root"]), job["files"], 0
    lack: list[str] = []
    folders = [folder for pattern in job["look"] for folder in sorted(Path("/").glob(pattern.lstrip("/")))]
    for path in sorted(root.rglob("*"), reverse=True) if root.is_dir() else []:
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()  # only where it is empty
        elif path.relative_to(root).as_posix() not in files:
            path.unlink()
    for name, (sha256, size) in files.items():
        if _is(root / name, sha256, size):
            continue
        near = next((folder / name for folder in folders if _is(folder / name, sha256, size)), None)
        if near is None or used + size > _free(root):
            lack.append(name)
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(near, root / name)
        used += size
    return {"missing": lack, "free": _free(root)}


def receive(job: dict[str, Any]) -> dict[str, Any]:
    """Unpack the tar stream after the job into ``job["root"]``: the files ``job["files"]`` and no others."""
    root, files, taken = Path(job["root"]), job["files"], []
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", bufsize=CHUNK) as stream:
        for member in stream:
            sha256, _ = files[member.name]
            path = root / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            digest, source = hashlib.sha256(), stream.extractfile(member)
            assert source is not None, "a file has content"
            with open(part, "wb") as file:
                while block := source.read(CHUNK):
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != sha256:
                part.unlink()
                raise OSError(f"{member.name} arrived with another sha256")
            os.replace(part, path)
            taken.append(member.name)
    return {"received": taken}


def build(job: dict[str, Any]) -> dict[str, Any]:
    """A virtual environment of this Python in ``job["target"]`` with the wheels ``job["wheels"]``: whole, or not there.

    It is made by hand: ``venv`` and ``ensurepip`` are packages of their own on Debian, and pip is not needed.
    """
    target = Path(job["target"])
    if target.is_dir():
        return {"built": False}
    new = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(new, ignore_errors=True)
    python = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
    site = new / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    try:
        site.mkdir(parents=True)
        for wheel in job["wheels"]:
            with zipfile.ZipFile(wheel) as packed:
                for name in packed.namelist():
                    packed.extract(name, site)
                    going()
        for data in site.glob("*.data"):  # PEP 427: parts that belong beside the others
            for part in (data / "purelib", data / "platlib"):
                if part.is_dir():
                    shutil.copytree(part, site, dirs_exist_ok=True)
            shutil.rmtree(data)
        (new / "bin").mkdir()
        for name in ("python", "python3"):
            (new / "bin" / name).symlink_to(python)
        version = ".".join(map(str, sys.version_info[:3]))
        (new / "pyvenv.cfg").write_text(
            f"home = {python.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
        )
        os.sync()  # before it has its name: a power cut must not leave it with empty files
        os.rename(new, target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _sync_folder(target.parent)
    return {"built": True}


def _is(path: Path, sha256: str, size: int) -> bool:
    """Whether ``path`` is a file of these bytes."""
    try:
        if path.is_symlink() or path.stat().st_size != size:
            return False
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
                going()
    except OSError:
        return False
    return digest.hexdigest() == sha256


def _free(path: Path) -> int:
    """Bytes that this user may still write where ``path`` is or will be."""
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main() -> None:
    """Do the job; an error of the disk is an answer too."""
    job = json.loads(sys.stdin.buffer.readline())
    try:
        answer = {"facts": facts, "missing": missing, "receive": receive, "build": build}[job["do"]](job)
    except OSError as error:
        answer = {"error": error.strerror or str(error), "where": str(error.filename or job.get("root", ""))}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
