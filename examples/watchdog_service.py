"""A service that systemd watches: python examples/watchdog_service.py SLOTS < a text a line

Says READY=1 after its first answer and WATCHDOG=1 while its loop goes round and the guarded model can help itself. When
too many engines hang it stops saying so, and systemd restarts it (edgekit-watchdog.service). SLOTS is a folder of
edgekit.runtimes.Slots; a bundle that was just installed is confirmed by the first answer.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Iterable

from edgekit.errors import InputError, NoAnswer
from edgekit.runtimes import Guarded, Slots


class Notify:
    """The service's half of sd_notify(3): lines NAME=VALUE in a datagram; nothing where nobody listens."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # the abstract namespace
        own = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        asked_us = int(os.environ.get("WATCHDOG_USEC", "0")) if own else 0
        self.every_s = asked_us / 2e6 if asked_us else 5.0  # twice in the time that systemd waits

    def tell(self, **lines: object) -> None:
        """Send them in one datagram."""
        if self._address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto("\n".join(f"{name}={value}" for name, value in lines.items()).encode(), self._address)


def read(lines: Iterable[str], waiting: queue.Queue[str | None]) -> None:
    """In a thread of its own, so that the loop goes round when no text comes."""
    for line in lines:
        waiting.put(line.strip())
    waiting.put(None)


def main(folder: str) -> None:
    """Answer each line with a line of JSON, in order, until the input ends."""
    notify, slots = Notify(), Slots(folder)
    first = slots.load(threads=1)  # the self-test of a new bundle, and the way back from a bad one
    del first
    with Guarded(slots.current(), threads=1, last_good=slots.fallback(), deadline_ms=1000) as model:
        model.run("ready?")
        slots.confirm()
        notify.tell(READY=1, STATUS=f"{model.engine} serves {model.bundle.name}")
        waiting: queue.Queue[str | None] = queue.Queue(maxsize=64)
        threading.Thread(target=read, args=(sys.stdin, waiting), daemon=True).start()
        while True:
            if not model.health()["restart_process"]:
                notify.tell(WATCHDOG=1)
            try:
                text = waiting.get(timeout=notify.every_s)
            except queue.Empty:
                continue
            if text is None:
                break
            print(json.dumps(answer(model, text)), flush=True)
        notify.tell(STOPPING=1)


def answer(model: Guarded, text: str) -> dict[str, object]:
    """What to print for ``text``."""
    try:
        found = model.classify(text)
    except NoAnswer as error:
        return {"text": text, "error": error.reason, "retry_after_s": error.retry_after_s}
    except InputError as error:
        return {"text": text, "error": str(error)}
    return {"text": text, "label": found.labels[0], "score": round(float(found.scores[0]), 4)}


if __name__ == "__main__":
    main(sys.argv[1])
