"""``edgekit phone``: a bundle in the browser of a phone."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, names, numbers
from edgekit.cli.output import say
from edgekit.cli.progress import Shown


def command(
    bundle: BundleArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder, or .json file, for the profile. Default: beside BUNDLE."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen at. Default: this machine's on the local network.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    name: Annotated[
        str | None, typer.Option("--name", help="A further name of this machine, such as laptop.local.")
    ] = None,
    https: Annotated[
        bool, typer.Option("--https", help="With a certificate made now: allows threads and the camera.")
    ] = False,
    web_engines: Annotated[
        Path | None, typer.Option("--web-engines", help="Folder with the npm packages. Default: fetched once by npm.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="These model files only. Default: each engine's first.")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option("--lengths", help="Tokens a text; a comma list sweeps. Default: 16,32,128.")
    ] = None,
    threads: Annotated[
        str | None, typer.Option("--threads", help="Threads; a comma list sweeps. Default: 1 and up to 4.")
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, max=5000, help="Inferences a row, at least.")] = 50,
    seconds: Annotated[float, typer.Option("--seconds", min=0, max=600, help="Seconds a row, at least.")] = 3.0,
    warmup: Annotated[int, typer.Option("--warmup", min=0, max=5000, help="Inferences before them, at most.")] = 60,
    once: Annotated[bool, typer.Option("--once", help="End after the first profile.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a profile of the same name.")] = False,
) -> int:
    """Check, measure and try a bundle in a phone's browser; the profile comes back here.

    Shows an address and a QR code. It works once, on the local network. Ctrl-C ends.
    """
    from edgekit.bundle import open_bundle
    from edgekit.devices.browser import PhoneServer, Settings
    from edgekit.devices.browser.guard import own_address
    from edgekit.devices.browser.packages import open_web_files

    opened = open_bundle(bundle)
    settings = Settings(
        runs=runs,
        seconds=seconds,
        warmup=warmup,
        files=names(file) or [],
        lengths=[] if lengths is None else numbers("--lengths", lengths),
        threads=[] if threads is None else numbers("--threads", threads),
    )
    with Shown() as progress:
        web = open_web_files(web_engines, progress)
    came = threading.Event()

    def told(path: Path) -> None:
        print(path, flush=True)
        came.set()

    server = PhoneServer(
        opened,
        web,
        output or opened.root.resolve().parent,
        host=host or own_address(),
        port=port,
        names=[name] if name else [],
        https=https,
        settings=settings,
        overwrite=overwrite,
        told=told,
    )
    if host is None and server.server_name == "127.0.0.1":
        say("This machine has no address on a local network, so nothing else can open the page.")
    with server:
        _show(server.address, server.fingerprint)
        try:
            while not (came.wait(3600) and once):
                came.clear()
        finally:
            sent = ", ".join(f"{kind} {size / 1e6:.1f}" for kind, size in sorted(server.sent.items()))
            say(f"sent, MB: {sent or 'nothing'}")
    return 0


def _show(address: str, fingerprint: str) -> None:
    import segno

    if sys.stderr.isatty():
        segno.make(address, error="m").terminal(sys.stderr, compact=True)
    say(f"Open on the phone: {address}")
    if fingerprint:
        say(f"The browser will warn of the certificate, as nobody vouches for it. Its SHA-256: {fingerprint}")
    else:
        say("One thread and no live camera over plain http; --https allows both.")
    say("The address works once. Ctrl-C ends.")
