"""A tiny HTTP service, of the standard library alone: python examples/http_service.py BUNDLE [PORT].

POST /classify with a text answers JSON; under load it answers 503 at once rather than late. GET /metrics is for
Prometheus. Port 0 takes a free one; the first line of output says which. SIGTERM ends it in order.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import edgekit
from edgekit.errors import InputError
from edgekit.runtimes import Stream

LONGEST = 1 << 20  # bytes of a request


class Handler(BaseHTTPRequestHandler):
    """One request; ``stream`` is set below."""

    stream: Stream
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        """A text to its label."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/classify" or not length.isdigit() or int(length) > LONGEST:
            self.close_connection = True  # its body was not read
            return self.answer(404 if self.path != "/classify" else 413, {"error": "POST /classify, 1 MiB at most"})
        try:
            text = self.rfile.read(int(length)).decode("utf-8")
        except UnicodeDecodeError as error:
            return self.answer(400, {"error": str(error)})
        result = self.stream.run(text)
        if result.dropped is not None:
            return self.answer(503, {"error": result.dropped})
        if result.error is not None:
            return self.answer(400 if isinstance(result.error, InputError) else 500, {"error": str(result.error)})
        found = result.answer
        return self.answer(
            200,
            {"label": found.labels[0], "score": round(float(found.scores[0]), 4), "age_ms": round(result.age_ms, 2)},
        )

    def do_GET(self) -> None:
        """The metrics."""
        if self.path != "/metrics":
            return self.answer(404, {"error": "GET /metrics"})
        return self.send(200, "text/plain; version=0.0.4; charset=utf-8", self.stream.stats().prometheus().encode())

    def answer(self, status: int, value: dict[str, object]) -> None:
        """JSON."""
        self.send(status, "application/json", json.dumps(value).encode())

    def send(self, status: int, kind: str, body: bytes) -> None:
        """Anything."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing: the metrics say it all."""


def main(bundle: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    model = edgekit.load(bundle, threads=1)
    with Stream(model, deadline_ms=500, policy="queue", queue_size=8) as stream:
        Handler.stream = stream
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
        server.server_close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8080)
