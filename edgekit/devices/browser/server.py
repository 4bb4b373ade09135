"""The server behind the page: standard library, one thread a connection, local clients only."""

from __future__ import annotations

import json
import os
import socket
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle
from edgekit.devices import profiles
from edgekit.devices.browser import measured
from edgekit.devices.browser.certificate import server_context
from edgekit.devices.browser.guard import Gate, is_local
from edgekit.devices.browser.handler import Handler
from edgekit.devices.browser.packages import ENGINES, WebFiles
from edgekit.errors import InputError
from edgekit.runtimes.context import ClipTokenizer
from edgekit.runtimes.preprocess import TextPreprocessor

LENGTHS = (16, 32, 128)
_POLL_S = 0.05  # how long it takes to notice that it is to end


@dataclass(frozen=True)
class Settings:
    """What the page measures: at least ``runs`` inferences and ``seconds`` a row, after a warm-up of at most
    ``warmup`` inferences. ``files``, ``lengths`` (tokens) and ``threads`` empty: the page's own choice, which is each
    engine's first file, 16, 32 and 128 tokens as far as the model goes, and 1 and up to 4 threads."""

    runs: int = 50
    seconds: float = 3.0
    warmup: int = 60
    files: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)


class PhoneServer(ThreadingHTTPServer):
    """Serves ``bundle`` and the page at ``https`` or http://``host``:``port``, to one client that has the token.

    ``names``: further names under which it may be reached; ``out``: the folder, or the ``.json`` file, for profiles.
    ``told`` is called with the path of each profile that came in. ``sent``: bytes sent, by kind ("page", "bundle",
    and each engine). Use as a context manager: it listens while the block runs. Raises ``InputError`` for an address
    that cannot be had or a bundle with nothing for a browser.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        bundle: Bundle,
        web: WebFiles,
        out: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = (),
        https: bool = False,
        settings: Settings = Settings(),
        overwrite: bool = False,
        told: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self.bundle, self.web, self.out, self.settings, self.told = bundle, web, out, settings, told
        self.overwrite = overwrite
        self.gate = Gate()
        self.sent: Counter[str] = Counter()
        self.https, self.fingerprint = https, ""
        self.engines = _engines(bundle, settings)
        self._lock = threading.Lock()
        self._tokens: Callable[[str], list[list[int]]] | None = None
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise InputError(
                f"address {host}:{port}", found=error.strerror or str(error), expected="a free one of this machine",
                fix="Name another with --host or --port.",
            ) from None  # fmt: skip
        reached = [host, *names, "localhost"] if host in ("127.0.0.1", "0.0.0.0") else [host, *names]
        self.hosts = frozenset(f"{name}:{self.server_port}" for name in reached)
        self._name = names[0] if names and host in ("127.0.0.1", "0.0.0.0") else host
        if https:
            context, self.fingerprint = server_context(reached)
            # The handshake is left to the connection's own thread, so that a client that stalls holds up nobody.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def origin(self) -> str:
        """Such as http://192.168.1.5:8765."""
        return f"{'https' if self.https else 'http'}://{self._name}:{self.server_port}"

    @property
    def address(self) -> str:
        """What the phone opens. The token stands behind #, which browsers send to no server and write to no log."""
        return f"{self.origin}/#{self.gate.token}"

    def __enter__(self) -> PhoneServer:
        threading.Thread(target=self.serve_forever, args=(_POLL_S,), daemon=True).start()
        return self

    def __exit__(self, *given: object) -> None:
        self.shutdown()
        self.server_close()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Only the local network: another client's connection is closed before anything is read."""
        return is_local(client_address[0])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that hung up or did not trust the certificate; the rest is a bug of ours."""
        import sys

        if not isinstance(sys.exception(), OSError | ssl.SSLError):
            super().handle_error(request, client_address)

    def count(self, kind: str, size: int) -> None:
        """Adds ``size`` bytes to what was sent of ``kind``."""
        with self._lock:
            self.sent[kind] += size

    def about(self) -> dict[str, Any]:
        """What the page has to know: the bundle, what to measure, and which files that takes."""
        manifest = self.bundle.manifest
        sizes = {entry.path: entry.bytes for entry in manifest.files}
        engines = {}
        for name, (reads, packages) in self.engines.items():
            files = [f"{package.name}/{path}" for package in packages for path in package.files]
            engines[name] = {
                "reads": reads,
                "version": packages[0].version,
                "bytes": self.web.size([file for file in files if "compat" not in file and "threaded_" not in file]),
            }
        return {
            "name": manifest.name,
            "task": manifest.task.to_dict(),
            "models": [model.to_dict() for model in manifest.models if model.engine in _readers(self.engines)],
            "sizes": sizes,
            "golden": manifest.golden,
            "engines": engines,
            "settings": asdict(self.settings),
            "phones": measured.phones(),
        }

    def token_ids(self, text: str) -> list[list[int]]:
        """Windows of token ids, for a page that cannot read the bundle's tokenizer itself."""
        with self._lock:
            if self._tokens is None:
                self._tokens = _tokenizer(self.bundle)
            return self._tokens(text)

    def keep(self, data: bytes) -> tuple[Path, dict[str, Any]]:
        """Checks what the page measured and writes it as a profile. Raises ``InputError``."""
        versions = {name: packages[0].version for name, (_, packages) in ENGINES.items()}
        profile = measured.profile_of(data, self.bundle, versions)
        with self._lock:
            path = self._place(measured.slug(profile))
            text = json.dumps(profile, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            profiles.read(text.encode(), path.name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as part:
                    part.write(text)
                os.chmod(part.name, 0o644)
                os.replace(part.name, path)
            except OSError as error:
                raise InputError(f"{path} cannot be written", found=error.strerror) from None
        self.told(path)
        return path, profile

    def _place(self, board: str) -> Path:
        """Where a profile of ``board`` goes: a name that is free, unless told to overwrite."""
        if self.out.suffix == ".json":
            first, name = self.out, self.out.with_suffix("").name
        else:
            name = f"{self.bundle.manifest.name}.{board}"
            first = self.out / f"{name}.profile.json"
        if self.overwrite or not first.exists():
            return first
        tail = first.name.removeprefix(name)
        return next(
            path for number in range(2, 10_000) if not (path := first.with_name(f"{name}-{number}{tail}")).exists()
        )

    def server_bind(self) -> None:
        """Without the lookup of its own name that http.server makes: on some networks it takes seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


def _engines(bundle: Bundle, settings: Settings) -> dict[str, Any]:
    """Those of ``ENGINES`` that have a model file to run. Raises ``InputError`` where none has."""
    models = bundle.manifest.models
    for file in settings.files:
        if file not in {model.path for model in models if model.engine in _readers(ENGINES)}:
            expected = ", ".join(model.path for model in models if model.engine in _readers(ENGINES))
            raise InputError(
                f"--file {file}", expected=expected or "a file that a browser can run, of which it has none"
            )
    longest = bundle.manifest.task.max_length
    for length in settings.lengths:
        if not 3 <= length <= longest:
            raise InputError("--lengths", found=length, expected=f"3 to {longest} tokens")
    wanted = [model for model in models if not settings.files or model.path in settings.files]
    found = {name: one for name, one in ENGINES.items() if any(model.engine == one[0] for model in wanted)}
    if not found:
        raise InputError(
            bundle.root.name, found=f"files for {', '.join(sorted({model.engine for model in models}))}",
            expected="an .onnx or a .tflite file, which browsers can run",
        )  # fmt: skip
    return found


def _readers(engines: dict[str, Any]) -> set[str]:
    return {reads for reads, _ in engines.values()}


def _tokenizer(bundle: Bundle) -> Callable[[str], list[list[int]]]:
    spec = bundle.manifest.task
    if not bundle.manifest.needs_tokenizer:
        raise InputError(bundle.root.name, found="no tokenizer", expected="a bundle that takes texts")
    if spec.task == "clip":
        clip = ClipTokenizer(bundle.file("tokenizer.json"), spec.max_length, spec.pad_id)
        return lambda text: [clip.ids(text)]
    words = TextPreprocessor(bundle.file("tokenizer.json"), spec)
    return lambda text: [window.ids for window in words.windows([text])]
