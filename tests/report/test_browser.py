"""The report in a real browser without network: no error, nothing fetched, nothing wider than a phone."""

from __future__ import annotations

import html as entities
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageStat

from edgekit.report import html, read
from tests.report.profiles import operators, profile, sustained

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
OWN = (".google.com", ".googleapis.com", ".gstatic.com", ".gvt1.com")  # what Chromium itself asks for when it starts


class Visit:
    """One page opened without network: the DOM it ended with, errors of its console, hosts that it asked for."""

    def __init__(self, page: Path, folder: Path, *flags: str) -> None:
        command = [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--user-data-dir={folder / 'home'}", f"--log-net-log={folder / 'net.json'}", *flags, page.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        self.dom = done.stdout
        self.console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        events = json.loads((folder / "net.json").read_text())["events"]
        urls = {urlsplit(str(one["params"]["url"])) for one in events if "url" in one.get("params", {})}
        hosts = {url.hostname or "" for url in urls if url.scheme in ("http", "https", "ws", "wss")}
        self.hosts = {host for host in hosts if not host.endswith(OWN)}


@pytest.fixture(scope="module")
def report(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle on a measured board, an emulated one and a browser."""
    boards = [
        profile(small_bundle, sustain=sustained(9.0), ops=operators(3.0)),
        profile(small_bundle, board="pi4", basis="emulated"),
        profile(small_bundle, board="pixel7", target="browser"),
    ]
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(html([read(small_bundle, boards)]))
    return path


def test_it_opens_without_network_and_without_errors(report: Path, tmp_path: Path) -> None:
    found = Visit(report, tmp_path, "--dump-dom")
    assert "emulated: no timing" in found.dom and "Words</h2>" in found.dom, "all of it was read"
    assert found.console == [] and found.hosts == set()


def test_errors_and_requests_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<!doctype html><img src="http://example.org/a.png"><script>nothing.here()</script>')
    found = Visit(page, tmp_path, "--dump-dom")
    assert found.console and found.hosts == {"example.org"}


def test_nothing_but_tables_is_wider_than_a_phone(report: Path, tmp_path: Path) -> None:
    frame = tmp_path / "phone.html"
    inside = entities.escape(report.read_text())
    frame.write_text(
        "<!doctype html><title>not read</title><script>"
        "function read(f) { document.title = 'wide ' + f.contentDocument.documentElement.scrollWidth; }"
        f'</script><iframe width=360 height=800 style="border:0" onload="read(this)" srcdoc="{inside}">'
    )
    title = re.search(r"<title>(.*?)</title>", Visit(frame, tmp_path, "--dump-dom").dom)
    assert title and title[1] == "wide 360"


def test_it_is_dark_where_that_is_asked_for(report: Path, tmp_path: Path) -> None:
    light = {}
    for name, flags in {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}.items():
        folder = tmp_path / name
        folder.mkdir()
        Visit(report, folder, "--window-size=800,900", f"--screenshot={folder / 'page.png'}", *flags)
        light[name] = ImageStat.Stat(Image.open(folder / "page.png").convert("L")).mean[0]
    assert light["light"] > 200 > 90 > light["dark"]


def test_it_prints(report: Path, tmp_path: Path) -> None:
    Visit(report, tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}")
    found = (tmp_path / "report.pdf").read_bytes()
    assert found.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", found)) >= 3
