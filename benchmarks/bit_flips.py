"""Does any changed byte pass a signature, and what does the check cost: python benchmarks/bit_flips.py BUNDLE.

BUNDLE is copied and signed with a key made for this run. Then single bytes are changed to another value, one at a
time, at random places: half of them anywhere in all files together (nearly all in the models), half in a file drawn
first. Each time the bundle is opened as ``edgekit.load`` opens it: signature, manifest, sizes, hashes. What comes back
is counted, and the byte put back.

A file that was not touched is not hashed again: its hash is that of the same bytes. So one change costs what its own
file costs, not the whole bundle, and 10,000 take minutes; what decides is edgekit's own code. `--whole` of the changes
are opened once more without that short cut, and must end the same way.

Then the times, in ms of this process's processor time, which other programs on the machine disturb least: a load with
and without trusted keys, and its parts, in turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import edgekit
from edgekit.bundle import keys, open_bundle
from edgekit.bundle import sign as signing
from edgekit.bundle.signature import check_folder
from edgekit.errors import BundleError
from edgekit.runtimes import isa


@contextmanager
def remembered(root: Path) -> Iterator[Callable[[Path | None], None]]:
    """While open, hashing a file of ``root`` gives what it gave before, but for the one that the caller names."""
    known = {str(path): hashlib.sha256(path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    plain, changed = hashlib.file_digest, [""]

    def digest(file: Any, name: str) -> Any:
        where = str(Path(file.name)) if isinstance(file.name, str) else path_of(file.fileno())
        return plain(file, name) if where == changed[0] else known[where]

    def touch(path: Path | None) -> None:
        changed[0] = "" if path is None else str(path)

    with mock.patch.object(hashlib, "file_digest", digest):
        yield touch


def path_of(descriptor: int) -> str:
    """The path that an open file was opened by (Linux)."""
    return str(Path(f"/proc/self/fd/{descriptor}").resolve())


def flips(root: Path, public: bytes, count: int, seed: int, whole: int) -> dict[str, Any]:
    """Change ``count`` bytes of the signed bundle ``root``, one at a time; how each ended, by file."""
    rng = random.Random(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    again = set(rng.sample(range(count), min(whole, count)))
    refused: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    loaded: list[tuple[str, int]] = []
    differing = 0
    with remembered(root) as touch:
        for number in range(count):
            path = rng.choices(files, sizes)[0] if number % 2 else rng.choice(files)
            place, change = rng.randrange(path.stat().st_size), rng.randrange(1, 256)
            with open(path, "r+b", buffering=0) as file:
                file.seek(place)
                (old,) = file.read(1)
                file.seek(place)
                file.write(bytes([old ^ change]))
            touch(path)
            name = outcome(root, public)
            if number in again:
                with mock.patch.object(hashlib, "file_digest", FILE_DIGEST):
                    differing += outcome(root, public) != name
            with open(path, "r+b", buffering=0) as file:
                file.seek(place)
                file.write(bytes([old]))
            inside = path.relative_to(root).as_posix()
            if name:
                refused[inside] += 1
                errors[name] += 1
            else:
                loaded.append((inside, place))
    return {
        "changes": count,
        "refused": sum(refused.values()),
        "loaded": len(loaded),
        "places_that_passed": loaded,
        "by_file": dict(refused),
        "by_error": dict(errors),
        "checked_without_the_short_cut": len(again),
        "that_differed": differing,
    }


FILE_DIGEST = hashlib.file_digest


def outcome(root: Path, public: bytes) -> str:
    """The error's name, "" where the bundle was opened."""
    try:
        open_bundle(root, trusted_keys=[public])
    except BundleError as error:
        return type(error).__name__
    return ""


def times(root: Path, public: bytes, rounds: int) -> dict[str, float]:
    """Median ms of a load and of its checks, in turns in one process; the first of each is not counted."""
    manifest = (root / "manifest.json").read_bytes()
    variants: dict[str, Callable[[], object]] = {
        "load": lambda: edgekit.load(root, threads=1),
        "load, trusted keys": lambda: edgekit.load(root, threads=1, trusted_keys=[public]),
        "load, no hashes": lambda: edgekit.load(root, threads=1, check_hashes=False),
        "signature alone": lambda: check_folder(root, manifest, [public]),
        "sizes and hashes": lambda: open_bundle(root),
        "sizes": lambda: open_bundle(root, check_hashes=False),
    }
    samples: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for turn in range(rounds + 1):
        random.shuffle(names)
        for name in names:
            began = time.process_time()
            variants[name]()
            if turn:
                samples[name].append((time.process_time() - began) * 1e3)
    return {name: median(found) for name, found in samples.items()}


FIRST = """
import sys, time
import edgekit.bundle.keys as keys
began = time.process_time()
keys.read_public([sys.argv[1]])
print((time.process_time() - began) * 1e3)
"""


def first_key(path: Path) -> float:
    """Median ms, of five new processes, to import the library and to read one public key."""
    runs = [subprocess.run([sys.executable, "-c", FIRST, str(path)], capture_output=True, check=True) for _ in range(5)]
    return median(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Changed bytes over a signed bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--whole", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, key = Path(folder).resolve() / "signed.edge", Path(folder) / "key"
        shutil.copytree(given.bundle, root)
        keys.generate(key)
        signing.sign(root, [key], release=1, overwrite=True)
        public = key.with_name("key.pub").read_bytes()
        began = time.perf_counter()
        found = flips(root, public, given.count, given.seed, given.whole)
        found["seconds"] = round(time.perf_counter() - began, 1)
        found["bytes"] = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        found["machine"] = isa.machine()
        found["ms"] = {
            **times(root, public, given.rounds),
            "first key in a process": first_key(key.with_name("key.pub")),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
