"""The phone page from end to end in Chromium, as a Pixel 7, whose viewport and user agent it takes, and no more."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.devices.browser import PhoneServer, Settings
from edgekit.devices.browser.packages import WebFiles, open_web_files
from edgekit.errors import MissingDependencyError
from tests.runtimes.three import make_bundle

pytestmark = pytest.mark.slow
QUICK = Settings(runs=10, seconds=0, warmup=10, lengths=[16], threads=[1, 2])
NAME = "phone.test"  # leads to this machine, but is no name of its own: plain http there is no secure context
WAIT_MS = 150_000
ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build/phone"  # git ignores it
WEIGHT = (ROOT / "docs/boards/phone.md").read_text()


@pytest.fixture(scope="module")
def web() -> WebFiles:
    """The real engines, in the user's own cache: npm fetches them once a machine."""
    try:
        return open_web_files()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install edgekit[dev]")
    with api.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield driver, browser
        browser.close()


@pytest.fixture(scope="module")
def two_engines(tiny_encoder: Path, tiny_litert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tiny_encoder, tmp_path_factory.mktemp("phone"), tiny_litert)


@dataclass
class Visit:
    """A page that a phone has opened, and what it complained of."""

    page: Any
    server: PhoneServer
    complaints: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Presses the button and waits for the live answer, which comes last."""
        self.page.click("#go")
        self.page.wait_for_selector("#answer li, #trouble:visible", timeout=WAIT_MS)
        assert self.page.is_hidden("#trouble"), self.page.inner_text("#trouble-text")

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@contextmanager
def visit(
    chromium: Any, bundle: Path, web: WebFiles, out: Path, scheme: str = "light", https: bool = False, **given: Any
) -> Iterator[Visit]:
    driver, browser = chromium
    opened = open_bundle(bundle)
    with PhoneServer(opened, web, out, names=[NAME], https=https, settings=QUICK, **given) as server:
        context = browser.new_context(**driver.devices["Pixel 7"], ignore_https_errors=True, color_scheme=scheme)
        found = Visit(context.new_page(), server)
        found.page.on("console", lambda said: said.type == "error" and found.complaints.append(said.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on(
            "request", lambda request: request.url.startswith(server.origin) or found.complaints.append(request.url)
        )
        found.page.goto(server.address)
        found.page.wait_for_selector("#go:visible, #trouble:visible", timeout=WAIT_MS)
        yield found
        context.close()


def profile(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*.profile.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def differences(found: dict[str, Any]) -> dict[str, float]:
    """The largest absolute difference that each check of outputs tells."""
    numbers = {one["name"]: re.search(r"max abs ([\d.e-]+)", one["detail"]) for one in found["verified"]["checks"]}
    return {name: float(one[1]) for name, one in numbers.items() if one}


@pytest.mark.parametrize(("https", "scheme"), [(False, "light"), (True, "dark")], ids=["http", "https"])
def test_both_engines(
    chromium: Any, two_engines: Path, web: WebFiles, tmp_path: Path, https: bool, scheme: str
) -> None:
    kind = "https" if https else "http"
    with visit(chromium, two_engines, web, tmp_path, scheme, https) as phone:
        assert "/#" not in phone.page.url
        assert phone.page.input_value("#phone") == "pixel7"  # as the user agent says
        phone.shot(f"{kind}-{scheme}-start")
        phone.run()
        phone.shot(f"{kind}-{scheme}-result")
        phone.page.fill("#words", "dull")
        phone.page.wait_for_selector("#demo-note:has-text('browser')")
        assert phone.page.locator("#answer li").count() == 3
        assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert phone.page.inner_text("#right").startswith("Yes") and phone.page.locator(".bad:visible").count() == 0
        assert phone.complaints == []
        sent = dict(phone.server.sent)
    found = profile(tmp_path)
    threads = [1, 2] if https else [1]
    ran = {(row["engine"], row["threads"]) for row in found["rows"]}
    assert ran == {(engine, count) for engine in ("onnxruntime-web", "litert-web") for count in threads}
    seen = found["environment"]
    assert seen["isolated"] is https and seen["os"] == "Android 14" and found["failed"] == []
    assert found["verified"]["ok"] and found["basis"] == "emulated" and found["board"] == "pixel7"
    told = differences(found)
    assert len(told) == 2 * len(threads) and max(told.values()) < 1e-4
    assert all(row["runs"] == len(row["samples_ms"]) >= 10 for row in found["rows"])
    (SHOTS / f"{kind}-weight.json").write_text(json.dumps(sent, indent=1))
    stated = re.findall(r"^\| (page|\S+-web) \| ([\d.]+) \| ([\d.]+) \|$", WEIGHT, re.MULTILINE)
    assert len(stated) == 3
    for part, plain, secure in stated:
        assert sent[part] / 1e6 == pytest.approx(float(secure if https else plain), rel=0.1), part


def test_a_second_visitor_and_a_reload(chromium: Any, small_bundle: Path, web: WebFiles, tmp_path: Path) -> None:
    driver, browser = chromium
    with visit(chromium, small_bundle, web, tmp_path) as phone:
        phone.page.reload()
        phone.page.wait_for_selector("#go:visible")
        other = browser.new_context(**driver.devices["Pixel 7"]).new_page()
        other.goto(phone.server.address)
        other.wait_for_selector("#trouble:visible")
        assert "used before" in other.inner_text("#trouble-text") and other.is_hidden("#start")
        other.context.close()


def test_pictures_and_the_camera(chromium: Any, clip_bundle: Path, web: WebFiles, tmp_path: Path) -> None:
    with visit(chromium, clip_bundle, web, tmp_path, https=True) as phone:
        phone.run()
        note = phone.page.inner_text("#demo-note")
        phone.page.click("#camera")
        phone.page.wait_for_selector(f"#demo-note:not(:text-is({json.dumps(note)}))")
        phone.page.wait_for_selector("#camera:has-text('Stop')")
        phone.page.click("#camera")
        phone.page.fill("#labels", "a red square, a blue circle")
        phone.page.dispatch_event("#labels", "change")
        phone.page.wait_for_selector("#answer li:nth-child(3)", state="detached")
        assert phone.page.locator("#answer li").count() == 2
        phone.shot("clip-result")
        assert phone.complaints == []
    found = profile(tmp_path)
    assert {row.get("tower") for row in found["rows"]} == {"image", "text"}
    assert found["verified"]["ok"] and max(differences(found).values()) < 1e-3


def test_pictures_without_a_text_tower(chromium: Any, clip_bank: Path, web: WebFiles, tmp_path: Path) -> None:
    with visit(chromium, clip_bank, web, tmp_path) as phone:
        phone.run()
        assert phone.page.locator("#answer li").count() == 3  # the labels of the bank
        assert phone.complaints == []
    assert profile(tmp_path)["verified"]["ok"]


def test_another_tokenizer_and_wrong_answers(chromium: Any, small_bundle: Path, web: WebFiles, tmp_path: Path) -> None:
    with visit(chromium, small_bundle, web, tmp_path) as phone:
        none = "export const tokenizerOf = () => null;"  # as for a tokenizer that the page cannot read
        phone.page.route("**/page/words.js", lambda route: route.fulfill(body=none, content_type="text/javascript"))
        for one in phone.server.bundle.manifest.golden["tolerances"]:
            one["min_cosine"] = 1.1
        phone.page.reload()
        phone.page.wait_for_selector("#go:visible")
        phone.run()
        assert "cut into tokens on your computer" in phone.page.inner_text("#demo-note")
        assert phone.page.locator("#answer li").count() == 3
        assert phone.page.inner_text("#right").startswith("No") and phone.page.locator(".bad #checks .no").count() == 1
        phone.shot("wrong-answers")
        assert phone.complaints == []
    found = profile(tmp_path)
    assert found["verified"]["ok"] is False and max(differences(found).values()) < 1e-4
