"""The examples of real time run as programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.runtimes.dual import DualModel
from tests import clip_bundles
from tests.conftest import ROOT

LABELS = ",".join(clip_bundles.LABELS)


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def example(name: str, *arguments: object, given: str = "") -> tuple[list[dict[str, object]], str]:
    """The JSON lines that it prints, and its stderr."""
    done = subprocess.run(
        command(name, *arguments),
        capture_output=True,
        text=True,
        input=given,
        env=environment(),
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_firmware_loop(small_bundle: Path) -> None:
    texts = [f"film number {number} was charming" for number in range(30)]
    lines, said = example("firmware_loop.py", small_bundle, given="\n".join(texts) + "\n")
    assert [line["text"] for line in lines] == texts
    assert all(("label" in line) != ("no_answer" in line) for line in lines)
    assert any("label" in line for line in lines)
    assert "answers" in said


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same ten frames as GIF and as JPEG pictures one after the other."""
    folder = tmp_path_factory.mktemp("video")
    shown = [Image.fromarray(np.full((40, 48, 3), 25 * number, np.uint8)) for number in range(10)]
    shown[0].save(folder / "film.gif", save_all=True, append_images=shown[1:], duration=20)
    with open(folder / "film.mjpeg", "wb") as file:
        for frame in shown:
            frame.save(file, "JPEG")
    return folder


@pytest.mark.parametrize("name", ["film.gif", "film.mjpeg"])
def test_camera_loop(dual_bundle: Path, dual: DualModel, video: Path, name: str) -> None:
    lines, said = example("camera_loop.py", dual_bundle, video / name, LABELS, "--every")
    assert [line["frame"] for line in lines] == list(range(10))
    assert "10 frames, 10 labelled" in said
    with Image.open(video / "film.gif") as first:
        expected = dual.zero_shot(first.convert("RGB"), clip_bundles.LABELS).labels[0]
    assert lines[0]["label"] == expected


def test_camera_loop_lets_frames_go(dual_bundle: Path, video: Path) -> None:
    lines, said = example("camera_loop.py", dual_bundle, video / "film.gif", LABELS)
    assert 1 <= len(lines) <= 10
    assert lines[-1]["frame"] == 9, "the last frame is always the newest"
    assert "10 frames" in said


@pytest.fixture
def service(small_bundle: Path) -> Iterator[str]:
    """The address of a running one."""
    running = subprocess.Popen(
        command("http_service.py", small_bundle, 0), stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert running.stdout is not None
    yield running.stdout.readline().strip()
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    running.stdout.close()


def test_http_service(service: str) -> None:
    def ask(path: str, body: bytes | None = None) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(urllib.request.Request(service + path, body), timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    answers = [ask("/classify", b"a charming film") for _ in range(5)]
    assert any(status == 200 and json.loads(text)["label"] for status, text in answers)
    assert all(status in (200, 503) for status, _ in answers)
    assert ask("/classify", b"\xff\xfe")[0] == 400
    assert ask("/elsewhere", b"text")[0] == 404
    assert ask("/")[0] == 404
    status, text = ask("/metrics")
    assert status == 200
    assert "edgekit_stream_requests_total 5.0" in text.splitlines()
