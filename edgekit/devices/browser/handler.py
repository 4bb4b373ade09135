"""Requests of the page, one by one: what it may ask for, and what every answer says to the browser."""

from __future__ import annotations

import http.client
import json
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edgekit.devices.browser.measured import MAX_BYTES
from edgekit.errors import EdgekitError, InputError

if TYPE_CHECKING:
    from edgekit.devices.browser.server import PhoneServer

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
# Isolation gives the page shared memory, hence threads. Browsers heed it on https and on this machine alone, and
# complain of it elsewhere.
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
# Nothing may come from anywhere else; 'wasm-unsafe-eval' lets WebAssembly be compiled, and no script.
HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
MAX_SMALL = 64 << 10  # bytes of a token, or of a text to be cut into tokens
_CHUNK = 1 << 18


class Handler(BaseHTTPRequestHandler):
    """``/`` and ``/page/`` are anybody's on the local network; all else is for the session that the token opened."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: PhoneServer

    def do_GET(self) -> None:
        """Pages, engines, the bundle's files."""
        if not self._right_host():
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            return self._file(PAGE / "index.html", "page")
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "page":
            known = {entry.name: entry for entry in PAGE.iterdir() if entry.suffix in KINDS}
            return self._file(known[name], "page") if name in known else self._refuse(404, "no such file")
        if not self._session():
            return self._refuse(403, "no session")
        if path == "/about.json":
            return self._json(200, self.server.about())
        if kind == "engines":
            file = self.server.web.path(name)
            packed = file and file.with_name(file.name + ".gz")
            if packed is None:
                return self._refuse(404, "no such file")
            what = "onnxruntime-web" if name.startswith("onnxruntime-web/") else "litert-web"
            return self._file(packed, what, suffix=Path(name).suffix, encoding="gzip")
        if kind == "bundle":
            try:
                return self._file(self.server.bundle.file(name), "bundle")
            except EdgekitError:
                return self._refuse(404, "no such file")
        return self._refuse(404, "no such file")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """The token, a text to be cut into tokens, the measurements."""
        path = urlsplit(self.path).path
        most = MAX_BYTES if path == "/profile" else MAX_SMALL
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdecimal() and int(size) <= most):
            self.close_connection = True  # what follows is not read
            return self._refuse(413 if size.isdecimal() else 411, f"a body of at most {most} bytes is expected")
        body = self.rfile.read(int(size))
        if not self._right_host():
            return
        if self.headers.get("Origin", self.server.origin) not in self._origins():
            return self._refuse(403, "a page of another origin")
        if path == "/session":
            return self._open(body)
        if not self._session():
            return self._refuse(403, "no session")
        try:
            if path == "/tokens":
                return self._json(200, {"windows": self.server.token_ids(body.decode("utf-8", "replace"))})
            if path == "/profile":
                place, profile = self.server.keep(body)
                return self._json(200, {"file": place.name, "profile": profile})
        except InputError as error:
            return self._json(400, {"error": str(error)})
        return self._refuse(404, "no such place")

    def _open(self, body: bytes) -> None:
        session = self.server.gate.open(body.decode("utf-8", "replace"))
        if session is None:
            return self._refuse(403, "this address was used before, or is not the one in the terminal")
        secure = "; Secure" if self.server.https else ""
        cookie = f"{self._cookie()}={session}; Path=/; HttpOnly; SameSite=Strict{secure}"
        self._answer(204, b"", {"Set-Cookie": cookie})

    def _cookie(self) -> str:
        return f"edgekit-{self.server.server_port}"  # cookies are shared by all ports of a host

    def _session(self) -> bool:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie())
        except CookieError:
            return False
        return found is not None and self.server.gate.knows(found.value)

    def _right_host(self) -> bool:
        """Refuses names that are not ours: a page elsewhere may have let its own name lead here (DNS rebinding)."""
        if self.headers.get("Host", "") in self.server.hosts:
            return True
        self._refuse(421, "another host's name")
        return False

    def _origins(self) -> set[str]:
        return {f"{'https' if self.server.https else 'http'}://{host}" for host in self.server.hosts}

    def _file(self, path: Path, kind: str, suffix: str = "", encoding: str = "") -> None:
        with open(path, "rb") as file:
            size = path.stat().st_size
            headers = {"Content-Type": KINDS.get(suffix or path.suffix, "application/octet-stream")}
            # The engines' versions are pinned, but the address is not: another run may serve others under it.
            headers["Cache-Control"] = "no-cache" if encoding else "no-store"
            if encoding:
                headers["Content-Encoding"] = encoding
            self._head(200, size, headers)
            if self.command == "HEAD":
                return
            while chunk := file.read(_CHUNK):
                self.wfile.write(chunk)
        self.server.count(kind, size)

    def _json(self, status: int, value: Any) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, why: str) -> None:
        self._answer(status, json.dumps({"error": why}).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, len(body), {"Cache-Control": "no-store", **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(status, http.client.responses.get(status))
        if status != 204:
            self.send_header("Content-Length", str(size))
        own = self.headers.get("Host", "").startswith(("localhost:", "127.0.0.1:"))
        isolation = ISOLATION if self.server.https or own else {}
        for name, value in {**HEADERS, **isolation, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        """Without Python's version."""
        return "edgekit"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the person."""
