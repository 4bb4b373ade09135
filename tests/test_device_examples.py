"""The examples for devices run: a service under a watchdog, a publisher with a real broker."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgekit.runtimes import Slots
from tests.runtimes import tiny

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "examples/edgekit-watchdog.service"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bundle(tmp_path_factory.mktemp("examples") / "small.edge")


def start(name: str, *arguments: object, **env: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )


class Systemd:
    """What systemd does for a service of Type=notify: it listens on a datagram socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(60)

    def hears(self) -> dict[str, str]:
        """The next datagram."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def close(self) -> None:
        self.socket.close()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_watchdog_service(abstract: bool, bundle: Path, tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots")
    slots.install(bundle)
    name = f"edgekit-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    systemd = Systemd("\0" + name if abstract else name)
    service = start(
        "watchdog_service.py", slots.folder, NOTIFY_SOCKET="@" + name if abstract else name, WATCHDOG_USEC="200000"
    )
    try:
        assert service.stdin is not None and service.stdout is not None
        ready = systemd.hears()
        assert ready["READY"] == "1" and "onnxruntime" in ready["STATUS"]
        state = slots.status()
        assert state is not None and state.confirmed, "by the first answer"
        assert [systemd.hears() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3, "though no text comes"
        service.stdin.write("a charming film\n")
        service.stdin.flush()
        assert json.loads(service.stdout.readline())["label"] in tiny.LABELS
        service.stdin.close()
        while (heard := systemd.hears()) == {"WATCHDOG": "1"}:
            pass
        assert heard == {"STOPPING": "1"}
        assert service.wait(60) == 0
    finally:
        service.kill()
        service.wait()
        for stream in (service.stdout, service.stderr):
            stream.close()  # type: ignore[union-attr]
        systemd.close()


def test_watchdog_service_without_systemd(bundle: Path, tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots")
    slots.install(bundle)
    service = start("watchdog_service.py", slots.folder, NOTIFY_SOCKET="")
    out, err = service.communicate("no\nfine\n", timeout=120)
    assert service.returncode == 0, err
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["no", "fine"]


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", SERVICE.read_text(), flags=re.MULTILINE)
    (tmp_path / SERVICE.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / SERVICE.name)], check=False, capture_output=True, text=True
    )
    about = [line for line in done.stderr.splitlines() if SERVICE.name in line]
    assert about == [] and "Unknown" not in done.stderr, done.stderr


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """A real broker on a free port of the loopback interface; its port."""
    if MOSQUITTO is None:
        pytest.skip("needs mosquitto: apt-get install mosquitto")
    if find_spec("paho") is None:
        pytest.skip("needs the package paho-mqtt: pip install edgekit[dev]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
    (tmp_path / "mosquitto.conf").write_text(settings + ("user root\n" if os.geteuid() == 0 else ""))
    running = subprocess.Popen(
        [MOSQUITTO, "-c", str(tmp_path / "mosquitto.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert running.poll() is None and time.monotonic() < end, "the broker does not start"
                time.sleep(0.02)
        yield port
    finally:
        running.terminate()
        running.wait()


def test_mqtt_publisher(broker: int, bundle: Path) -> None:
    import paho.mqtt.client as mqtt

    heard: queue.Queue[tuple[str, str]] = queue.Queue()
    subscribed: queue.Queue[Any] = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: heard.put((message.topic, message.payload.decode()))
    client.on_subscribe = lambda *given: subscribed.put(given)
    client.connect("127.0.0.1", broker)
    client.loop_start()
    client.subscribe("board/#", qos=1)
    subscribed.get(timeout=30)
    publisher = start("mqtt_publisher.py", bundle, "--port", broker, "--topic", "board")
    out, err = publisher.communicate("a charming film\nno\n", timeout=120)
    try:
        assert publisher.returncode == 0, out + err
        told: dict[str, list[str]] = {}
        while told.get("board/status", [])[-1:] != ["offline"]:
            topic, payload = heard.get(timeout=30)
            told.setdefault(topic, []).append(payload)
        assert told["board/status"] == ["online", "offline"]
        answers = [json.loads(one) for one in told["board/answers"]]
        assert [one["text"] for one in answers] == ["a charming film", "no"]
        assert all(one["label"] in tiny.LABELS for one in answers)
        assert json.loads(told["board/health"][0])["state"] == "serving"
    finally:
        client.disconnect()
        client.loop_stop()
