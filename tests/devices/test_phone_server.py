"""The server behind the phone page: who gets in, what is served, what a page may send back."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bundle import open_bundle
from edgekit.devices.browser import PhoneServer, Settings
from edgekit.devices.browser.guard import Gate, is_local
from edgekit.devices.browser.measured import profile_of
from edgekit.devices.browser.packages import PACKAGES, WebFiles
from edgekit.errors import InputError

ENGINES = {"onnxruntime-web": "1.30.0", "litert-web": "2.5.3"}


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> WebFiles:
    """Files under the engines' names, for tests that run no engine."""
    root = tmp_path_factory.mktemp("web")
    for package in PACKAGES:
        for path in package.files:
            file = root / package.name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"nothing")
            file.with_name(file.name + ".gz").write_bytes(b"packed")
    return WebFiles(root)


@pytest.fixture
def server(small_bundle: Path, stand_ins: WebFiles, tmp_path: Path) -> Iterator[PhoneServer]:
    with PhoneServer(open_bundle(small_bundle), stand_ins, tmp_path / "out") as running:
        yield running


class Phone:
    """A client with a cookie jar of one place."""

    def __init__(self, server: PhoneServer, connection: http.client.HTTPConnection | None = None) -> None:
        self.server, self.cookie = server, ""
        self.connection = connection or http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        given = {"Cookie": self.cookie} if self.cookie else {}
        self.connection.request(method, path, body, {**given, **headers})
        answer = self.connection.getresponse()
        data = answer.read()
        self.cookie = (answer.headers.get("Set-Cookie") or self.cookie).partition(";")[0]
        return answer.status, answer.headers, data

    def enter(self) -> Phone:
        assert self.ask("POST", "/session", self.server.gate.token)[0] == 204
        return self


def measurements(**changes: Any) -> dict[str, Any]:
    """What a page sends, with ``changes`` of its keys."""
    row = {
        "engine": "onnxruntime-web",
        "file": "models/fp32.onnx",
        "threads": 1,
        "length": 16,
        "tokens": 15,
        "load_ms": 120.5,
        "first_ms": 9,
        "warmup": 10,
        "warmup_stable": True,
        "parts_ms": {"preprocess": [0.1] * 20, "model": [3.0] * 19 + [8.0], "postprocess": [0.1] * 20},
    }
    environment = {
        "model": "Pixel 7", "os": "Android 14", "browser": "Chrome 140", "user_agent": "a phone", "cores": 8,
        "isolated": True, "automated": False, "hidden": False, "clock_ms": 0.005, "screen": "412 x 915",
    }  # fmt: skip
    checks = [{"name": "outputs", "ok": True, "detail": "3 examples"}]
    whole = {"rows": [row], "checks": checks, "failed": [], "board": "pixel7", "environment": environment}
    return {**whole, **changes}


def test_the_token_opens_one_session_once(server: PhoneServer) -> None:
    first, second = Phone(server), Phone(server)
    assert first.ask("GET", "/about.json")[0] == 403
    assert first.ask("POST", "/session", "wrong")[0] == 403
    assert not server.gate.used
    status, headers, _ = first.ask("POST", "/session", server.gate.token)
    assert status == 204 and "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    assert first.ask("GET", "/about.json")[0] == 200
    status, headers, body = second.ask("POST", "/session", server.gate.token)
    assert status == 403 and "Set-Cookie" not in headers and b"used before" in body
    assert second.ask("GET", "/about.json")[0] == 403
    assert Phone(server).ask("GET", "/about.json", Cookie=f"edgekit-{server.server_port}=guess")[0] == 403


def test_only_one_of_many_at_once_gets_in() -> None:
    gate, found = Gate(), []
    threads = [threading.Thread(target=lambda: found.append(gate.open(gate.token))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in found) == 1


def test_token_is_behind_the_hash(server: PhoneServer) -> None:
    origin, _, token = server.address.partition("/#")
    assert origin == server.origin and token == server.gate.token and len(token) >= 24


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True), ("192.168.1.7", True), ("10.1.2.3", True), ("172.31.0.1", True), ("169.254.9.9", True),
        ("fe80::1%eth0", True), ("::1", True), ("fd00::5", True), ("::ffff:192.168.1.7", True),
        ("8.8.8.8", False), ("172.32.0.1", False), ("::ffff:8.8.8.8", False), ("2606:4700::1111", False),
        ("192.0.2.1", False), ("nonsense", False), ("", False),
    ],
)  # fmt: skip
def test_which_clients_are_local(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_a_client_from_elsewhere_is_hung_up_on(server: PhoneServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        server, "verify_request", lambda request, client: PhoneServer.verify_request(server, request, ("8.8.8.8", 1))
    )
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        Phone(server).ask("GET", "/")


def test_another_name_or_origin_is_refused(server: PhoneServer) -> None:
    phone = Phone(server).enter()
    assert phone.ask("GET", "/about.json", Host="evil.example")[0] == 421
    assert phone.ask("POST", "/profile", b"{}", Origin="http://evil.example")[0] == 403
    assert phone.ask("GET", "/about.json", Host=f"localhost:{server.server_port}")[0] == 200


def test_nothing_but_the_page_the_engines_and_listed_files(server: PhoneServer) -> None:
    phone = Phone(server).enter()
    for path in ("/bundle/../../etc/passwd", "/bundle/%2e%2e/x", "/page/../server.py", "/page/", "/engines/x", "/x"):
        assert phone.ask("GET", path)[0] == 404, path
    for entry in server.bundle.manifest.files[:2]:
        status, _, body = phone.ask("GET", f"/bundle/{entry.path}")
        assert status == 200 and len(body) == entry.bytes
    status, headers, body = phone.ask("GET", "/engines/@litertjs/core/dist/index.js")
    assert (status, headers["Content-Encoding"], body) == (200, "gzip", b"packed")
    assert phone.ask("GET", "/engines/@litertjs/core/dist/index.js.gz")[0] == 404
    assert server.sent["litert-web"] == 6
    status, headers, body = phone.ask("HEAD", "/page/main.js")
    assert status == 200 and int(headers["Content-Length"]) > 100 and body == b""


def test_every_answer_says_what_the_page_may(server: PhoneServer) -> None:
    for path in ("/", "/page/worker.js", "/about.json", "/nothing"):
        headers = Phone(server).ask("GET", path)[1]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "://" not in policy and "unsafe-inline" not in policy
    page = Phone(server).ask("GET", "/")[2].decode()
    assert "://" not in page and "style=" not in page and "onclick" not in page


def test_the_page_names_no_other_host(root: Path) -> None:
    for path in (root / "edgekit/devices/browser/page").iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name


def test_what_the_page_is_told(server: PhoneServer) -> None:
    about = json.loads(Phone(server).enter().ask("GET", "/about.json")[2])
    assert about["name"] == "small" and list(about["engines"]) == ["onnxruntime-web"]
    assert [model["path"] for model in about["models"]] == ["models/fp32.onnx"]
    assert about["phones"]["pixel7"] == "Google Pixel 7" and "pi5" not in about["phones"]
    assert about["settings"]["runs"] == 50


def test_tokens_of_the_host(server: PhoneServer) -> None:
    status, _, body = Phone(server).enter().ask("POST", "/tokens", "a charming, funny film")
    assert status == 200
    assert json.loads(body)["windows"] == server.token_ids("a charming, funny film") != []


def test_a_profile_is_computed_from_samples_and_kept(server: PhoneServer, tmp_path: Path) -> None:
    phone = Phone(server).enter()
    for expected in ("small.pixel7.profile.json", "small.pixel7-2.profile.json"):
        status, _, body = phone.ask("POST", "/profile", json.dumps(measurements()))
        assert status == 200, body
        assert json.loads(body)["file"] == expected
    kept = json.loads((tmp_path / "out/small.pixel7.profile.json").read_text())
    assert kept == {**json.loads(body)["profile"], "created": kept["created"]}
    assert (kept["target"], kept["basis"], kept["board"], kept["verified"]["ok"]) == (
        "browser",
        "measured",
        "pixel7",
        True,
    )
    (row,) = kept["rows"]
    assert row["samples_ms"] == [3.2] * 19 + [8.2] and row["p50_ms"] == 3.2 and row["max_ms"] == 8.2
    assert row["mean_ms"] == pytest.approx(3.45) and row["mean_low_ms"] < 3.45 < row["mean_high_ms"]
    assert row["engine_version"] == "1.30.0" and row["precision"] == "fp32" and row["rss_mb"] is None
    assert kept["choice"]["engine"] == "onnxruntime-web"


def test_a_browser_that_a_program_drives_is_no_phone(small_bundle: Path) -> None:
    given = measurements()
    given["environment"]["automated"] = True
    found = profile_of(json.dumps(given).encode(), open_bundle(small_bundle), ENGINES)
    assert found["basis"] == "emulated" and found["environment"]["cpu"] is None
    given["environment"]["automated"] = False
    found = profile_of(json.dumps(given).encode(), open_bundle(small_bundle), ENGINES)
    assert found["basis"] == "measured" and found["environment"]["cpu"] == "Google Tensor G2"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("rows", [], "rows"),
        ("rows", {}, "rows"),
        ("rows", [{}] * 300, "at most 200"),
        ("rows.engine", "onnxruntime", "engine"),
        ("rows.file", "../x", "file"),
        ("rows.threads", 0, "threads"),
        ("rows.threads", True, "threads"),
        ("rows.load_ms", -1, "load_ms"),
        ("rows.load_ms", "5", "load_ms"),
        ("rows.parts_ms", {"preprocess": [1], "model": [1, 2], "postprocess": [1]}, "one length"),
        ("rows.parts_ms", {"preprocess": [], "model": [], "postprocess": []}, "one number a run"),
        ("rows.tower", "roof", "tower"),
        ("board", "pi5", "board"),
        ("checks", [{"name": "x", "ok": 1, "detail": ""}], "ok"),
        ("checks", [{"name": "x\x1b[31m", "ok": True, "detail": ""}], "name"),
        ("environment", None, "environment"),
        ("failed", [{"file": "x" * 500, "engine": "", "cause": ""}], "file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(server: PhoneServer, tmp_path: Path, field: str, value: Any, told: str) -> None:
    given = measurements()
    if field.startswith("rows."):
        given["rows"][0][field[5:]] = value
    else:
        given[field] = value
    status, _, body = Phone(server).enter().ask("POST", "/profile", json.dumps(given))
    assert status == 400 and told in json.loads(body)["error"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"rows": NaN}', b"[" * 5000, b'{"a": 1, "a": 2}'])
def test_what_is_no_profile_is_refused(server: PhoneServer, body: bytes) -> None:
    assert Phone(server).enter().ask("POST", "/profile", body)[0] == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data(), value=JSON)
def test_any_field_of_any_kind_is_kept_well_or_refused(small_bundle: Path, data: st.DataObject, value: Any) -> None:
    given = json.loads(json.dumps(measurements()))
    place = data.draw(st.sampled_from([given, given["rows"][0], given["environment"], given["rows"][0]["parts_ms"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    try:
        found = profile_of(json.dumps(given).encode(), _opened(small_bundle), ENGINES)
    except InputError:
        return
    assert all(np.isfinite(row["p50_ms"]) and row["runs"] == len(row["samples_ms"]) for row in found["rows"])
    json.dumps(found, allow_nan=False)


_BUNDLES: dict[Path, Any] = {}


def _opened(path: Path) -> Any:
    return _BUNDLES.setdefault(path, open_bundle(path))


def test_a_body_without_end_is_not_read(server: PhoneServer) -> None:
    for headers, status in (({"Content-Length": str(1 << 40)}, 413), ({"Content-Length": "-1"}, 411)):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        connection.putrequest("POST", "/session")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == status


def test_https_with_a_certificate_of_its_own(small_bundle: Path, stand_ins: WebFiles, tmp_path: Path) -> None:
    opened = open_bundle(small_bundle)
    with PhoneServer(opened, stand_ins, tmp_path, https=True, names=["laptop.local"]) as server:
        assert server.address.startswith("https://laptop.local:")
        data = ssl.get_server_certificate(("127.0.0.1", server.server_port))
        trusting = ssl.create_default_context(cadata=data)
        trusting.hostname_checks_common_name = False
        connection = http.client.HTTPSConnection("127.0.0.1", server.server_port, context=trusting, timeout=20)
        status, headers, _ = Phone(server, connection).ask("POST", "/session", server.gate.token)
        assert status == 204 and "Secure" in headers["Set-Cookie"]
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(data)).hexdigest()
        assert server.fingerprint.replace(":", "").lower() == digest
        with pytest.raises(ssl.SSLError):
            Phone(
                server,
                http.client.HTTPSConnection(
                    "127.0.0.1", server.server_port, context=ssl.create_default_context(), timeout=20
                ),
            ).ask("GET", "/")


def test_a_client_that_stalls_holds_up_nobody(small_bundle: Path, stand_ins: WebFiles, tmp_path: Path) -> None:
    with (
        PhoneServer(open_bundle(small_bundle), stand_ins, tmp_path, https=True) as server,
        socket.create_connection(("127.0.0.1", server.server_port)),  # says nothing, not even hello
    ):
        certificate = ssl.get_server_certificate(("127.0.0.1", server.server_port), timeout=20)
        context = ssl.create_default_context(cadata=certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", server.server_port, context=context, timeout=20)
        assert Phone(server, connection).ask("GET", "/")[0] == 200


def test_what_cannot_be_served(small_bundle: Path, stand_ins: WebFiles, server: PhoneServer, tmp_path: Path) -> None:
    opened = open_bundle(small_bundle)
    with pytest.raises(InputError, match=r"--file models/x\.onnx"):
        PhoneServer(opened, stand_ins, tmp_path, settings=Settings(files=["models/x.onnx"]))
    with pytest.raises(InputError, match="--lengths"):
        PhoneServer(opened, stand_ins, tmp_path, settings=Settings(lengths=[9999]))
    with pytest.raises(InputError, match="free one"):
        PhoneServer(opened, stand_ins, tmp_path, port=server.server_port)
    models = [replace(model, engine="openvino") for model in opened.manifest.models]
    other = replace(opened, manifest=replace(opened.manifest, models=models))
    with pytest.raises(InputError, match="openvino"):
        PhoneServer(other, stand_ins, tmp_path)
