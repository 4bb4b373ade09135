"""Writing is all or nothing, whatever happens meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit.bundle import Manifest, ModelFile, TaskSpec, open_bundle, write
from edgekit.errors import BundleError, InputError

MANIFEST = Manifest(
    "m", "2025-01-01T00:00:00Z", "0.1.0", TaskSpec("embed", [], 32, 8), [ModelFile("models/a.onnx", "e", "fp32")]
)
FILES: dict[str, Path | bytes] = {"models/a.onnx": b"a" * 100, "tokenizer.json": b"{}"}


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"from a file" * 200_000)
    path = tmp_path / "new" / "x.edge"
    write(path, MANIFEST, {**FILES, "deep/er/file": tmp_path / "source"})
    bundle = open_bundle(path)
    assert bundle.file("deep/er/file").read_bytes() == b"from a file" * 200_000
    assert [entry.path for entry in bundle.manifest.files] == ["deep/er/file", "models/a.onnx", "tokenizer.json"]
    assert leftovers(path.parent) == ["x.edge"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, MANIFEST, dict(reversed(FILES.items())) if name == "b" else FILES)
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


def test_nothing_is_replaced_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "x.edge"
    write(path, MANIFEST, FILES)
    with pytest.raises(InputError, match="overwrite"):
        write(path, MANIFEST, FILES)
    write(path, MANIFEST, {**FILES, "models/a.onnx": b"second"}, overwrite=True)
    assert open_bundle(path).file("models/a.onnx").read_bytes() == b"second"
    assert leftovers(tmp_path) == ["x.edge"]


def test_what_is_not_a_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "file"):
        with pytest.raises(InputError, match="not a bundle"):
            write(tmp_path / name, MANIFEST, FILES, overwrite=True)
    assert (tmp_path / "thesis/chapter1.txt").read_text() == "years of work"


def test_a_damaged_or_newer_bundle_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.edge"
    write(path, MANIFEST, FILES)
    (path / "manifest.json").write_text('{"schema_version": 9}')
    write(path, MANIFEST, FILES, overwrite=True)
    assert open_bundle(path)


@pytest.mark.parametrize("name", ["../out", "/abs", "manifest.json", "a\\b"])
def test_bad_names_leave_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises((BundleError, InputError, OSError)):
        write(tmp_path / "x.edge", MANIFEST, {**FILES, name: b"x"})
    assert leftovers(tmp_path) == []


def test_missing_sources_and_models_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        write(tmp_path / "x.edge", MANIFEST, {**FILES, "b": tmp_path / "none"})
    with pytest.raises(BundleError, match=r"models/a\.onnx"):
        write(tmp_path / "x.edge", MANIFEST, {"tokenizer.json": b"{}"})
    assert leftovers(tmp_path) == []


CHILD = """
import os, sys
from pathlib import Path
import edgekit.bundle.writer as w
from edgekit.bundle import Manifest, ModelFile, TaskSpec
point, path = sys.argv[1], Path(sys.argv[2])
real = getattr(w, point.split(":")[0])
left = int(point.split(":")[1])
def dies(*given):
    global left
    if left == 0:
        os.kill(os.getpid(), 9)
    left -= 1
    return real(*given)
setattr(w, point.split(":")[0], dies)
manifest = Manifest("m", "c", "v", TaskSpec("embed", [], 32, 8), [ModelFile("models/a.onnx", "e", "fp32")])
w.write(path, manifest, {"models/a.onnx": b"new" * 1000, "tokenizer.json": b"{}"}, overwrite=True)
"""
# Before each file, before the manifest, before syncing folders, before the swap, and after it.
POINTS = ["_put:0", "_put:1", "_put:2", "_sync:0", "_swap:0", "_sync:2"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point(tmp_path: Path, point: str, old: bool) -> None:
    path = tmp_path / "x.edge"
    if old:
        write(path, MANIFEST, FILES)
    done = subprocess.run([sys.executable, "-c", CHILD, point, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    if point == "_sync:2":
        assert open_bundle(path).file("models/a.onnx").read_bytes() == b"new" * 1000
    elif old:
        assert open_bundle(path).file("models/a.onnx").read_bytes() == b"a" * 100
    else:
        assert not path.exists()
    write(path, MANIFEST, FILES, overwrite=True)  # the next one cleans up behind the dead
    assert leftovers(tmp_path) == ["x.edge"]


def test_killed_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "x.edge"
    write(path, MANIFEST, FILES)
    big = (
        "import sys; from pathlib import Path; from edgekit.bundle import *\n"
        "m = Manifest('m', 'c', 'v', TaskSpec('embed', [], 32, 8), [ModelFile('models/a.onnx', 'e', 'fp32')])\n"
        "print(flush=True)\n"
        "while True: write(Path(sys.argv[1]), m, {'models/a.onnx': b'x' * (8 << 20), 'tokenizer.json': b'{}'}, True)\n"
    )
    for delay in (0.001, 0.01, 0.05, 0.09, 0.2):
        child = subprocess.Popen([sys.executable, "-c", big, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.kill()
        child.wait()
        child.stdout.close()
        assert open_bundle(path).file("models/a.onnx").stat().st_size in (100, 8 << 20)


def test_a_reader_beside_a_writer_sees_one_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "x.edge"
    write(path, MANIFEST, FILES)
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            write(path, MANIFEST, FILES, overwrite=True)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(200):
            assert (path / "manifest.json").stat().st_size > 0  # the name never points at nothing
    finally:
        stop.set()
        writer.join()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.edge"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    code = (
        "import sys; from pathlib import Path; from edgekit.bundle import *; from edgekit.errors import InputError\n"
        "m = Manifest('m', 'c', 'v', TaskSpec('embed', [], 32, 8), [ModelFile('models/a.onnx', 'e', 'fp32')])\n"
        "try: write(Path(sys.argv[1]), m, {'models/a.onnx': b'x' * (1 << 20), 'tokenizer.json': b'{}'}, True)\n"
        "except InputError as error: print(error); sys.exit(2)\n"
    )
    for old in (False, True):
        if old:
            write(path, MANIFEST, FILES)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], check=False, preexec_fn=limit, capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        assert "cannot be written" in done.stdout
        assert leftovers(tmp_path) == (["x.edge"] if old else [])
        assert not old or open_bundle(path).file("models/a.onnx").read_bytes() == b"a" * 100


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "locked/x.edge", MANIFEST, FILES)
