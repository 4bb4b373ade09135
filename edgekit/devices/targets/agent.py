"""The program that edgekit runs on a board, in the runtime that it has put there: a job in JSON in, lines of JSON out.

Needs only the device runtime.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, InputError, TargetError

MODULE = "edgekit.devices.targets.agent"


class Told:
    """Progress as lines of JSON, for whoever waits at the other end."""

    def __init__(self, out: Callable[[dict[str, Any]], None]) -> None:
        self._out = out

    def start(self, label: str, total: int) -> int:
        self._out({"start": label, "total": total})
        return 0

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        self._out({"advance": steps, "note": note})

    def finish(self, handle: int) -> None:
        self._out({"finish": True})

    def say(self, line: str) -> None:
        self._out({"say": line})

    def at(self, path: str) -> None:
        """The work goes on, with ``path``."""
        self._out({"at": path})


def install(job: dict[str, Any], progress: Told) -> dict[str, Any]:
    """Prove ``job["bundle"]`` here, make it the current one of ``job["slots"]``, and clear up.

    In this order: every check of the new bundle; the current one's golden vectors in the new runtime, so that the two
    fit whatever happens next; the link to the runtime; the slots, in one step. Until then all is as it was.
    """
    from edgekit.runtimes.slots import Slots
    from edgekit.runtimes.verify import verify

    keys = [text.encode() for text in job["keys"]] or None
    bundle, slots = Path(job["bundle"]), Slots(job["slots"], trusted_keys=keys)
    state = slots.status()
    current = None if state is None else slots.current()
    same = current is not None and _manifest(current) == _manifest(bundle)
    if state is not None and state.fallback and not (state.confirmed or job["confirm"] or same):
        raise InputError(
            f"{slots.folder}: {state.current}",
            found="installed, and not confirmed by the application",
            expected="a bundle that was seen to work before the next one",
            fix="Where no application there confirms it, you may: --confirm.",
        )
    progress.say("verifying on the board")
    report = verify(bundle, trusted_keys=keys, minimum_release=job["minimum_release"], at=progress.at)
    answer: dict[str, Any] = {"verified": report.to_dict(), "changed": False, "state": None}
    if report.ok:
        link, runtime = Path(job["link"]), Path(job["runtime"])
        before = os.readlink(link) if link.is_symlink() else None
        if current is not None and before not in (None, str(runtime)):
            _still_runs(current, runtime, Path(str(before)), progress)
        if not same or before != str(runtime):
            progress.say("switching")  # where nobody listens any more, this ends it while all is as it was
        _point(link, str(runtime))
        try:
            if job["confirm"] and state is not None and not same:
                slots.confirm()
            if not same:
                slots.install(bundle)
            if job["confirm"]:
                slots.confirm()
        except BaseException:
            link.unlink() if before is None else _point(link, before)
            raise
        answer["changed"] = not same
        _sweep(link, before)
    found = slots.status()
    answer["state"] = None if found is None else asdict(found)
    shutil.rmtree(bundle, ignore_errors=True)
    return answer


def _manifest(bundle: Path) -> str:
    try:
        return hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    except OSError:
        return ""


def _still_runs(current: Path, new: Path, old: Path, progress: Told) -> None:
    """Raises ``TargetError`` where ``current`` works in the ``old`` runtime and not in this, the new one."""
    from edgekit.runtimes.verify import verify

    progress.say("verifying the current bundle in the new runtime")
    report = verify(current, at=progress.at)
    if report.ok:
        return
    job = {"do": "verify", "bundle": str(current), "keys": []}
    done = subprocess.run(
        [old / "bin/python", "-m", MODULE], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    answers = done.stdout.splitlines()
    if answers and json.loads(answers[-1]).get("verified", {}).get("ok"):
        bad = "; ".join(f"{check.name}: {check.detail}" for check in report.checks if not check.ok)
        raise TargetError(
            f"the bundle that runs now ({current.name}) in the new runtime",
            found=bad[:500],
            expected="the answers that it gives in the present one",
            fix=f"Nothing was changed. Look at {new} beside {old}.",
        )


def _point(link: Path, runtime: str) -> None:
    """Let ``link`` lead to ``runtime``, in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    beside = link.with_name(f".{link.name}.tmp")
    beside.unlink(missing_ok=True)
    beside.symlink_to(runtime)
    os.replace(beside, link)


def _sweep(link: Path, before: str | None) -> None:
    """Remove runtimes that no link leads to, but the last one: a program may still run in it."""
    used = {os.readlink(one) for one in link.parent.glob("*.runtime")}
    for one in Path(os.readlink(link)).parent.iterdir():
        if str(one) not in used and str(one) != before:
            shutil.rmtree(one, ignore_errors=True)


def check(job: dict[str, Any], progress: Told) -> dict[str, Any]:
    """The bundle's own verify."""
    from edgekit.runtimes.verify import verify

    keys = [text.encode() for text in job["keys"]] or None
    return {"verified": verify(job["bundle"], trusted_keys=keys, at=progress.at).to_dict()}


def measure(job: dict[str, Any], progress: Told) -> dict[str, Any]:
    """The profile of ``job["bundle"]`` on this machine with ``job["options"]``; without times where it is emulated."""
    from edgekit.devices.emulated import emulation, without_times
    from edgekit.devices.profiler import profile
    from edgekit.runtimes.telemetry.read import Telemetry
    from edgekit.runtimes.verify import verify

    progress.say("verifying on the board")
    report = verify(job["bundle"], at=progress.at)
    emulator = emulation()
    throttle = Telemetry().read().throttle
    if throttle is not None and throttle.now:
        progress.say(f"the board holds itself back now: {', '.join(throttle.names)}; times will be longer than its own")
    found = profile(job["bundle"], **job["options"], verified=report.to_dict(), progress=progress).to_dict()
    if emulator:
        found = without_times(found)
    return {
        **found,
        "environment": {
            **found["environment"],
            "throttled": None if throttle is None else throttle.names,
            "emulator": emulator or None,
        },
    }


def clock(job: dict[str, Any], progress: Told) -> dict[str, Any]:
    """Times of artifact folders on this machine, in turns: ``timed`` name -> ``samples_ms``, ``rss_mb``.

    ``job["models"]``: name -> file -> its name in the folder ``job["store"]``. Nothing is timed where it is emulated.
    """
    from edgekit.devices.emulated import emulation
    from edgekit.devices.examples import from_json
    from edgekit.runtimes import artifact
    from edgekit.runtimes.timing import interleaved

    if emulator := emulation():
        return {"emulator": emulator, "timed": {}}
    examples = [from_json(one) for one in job["examples"]]
    with tempfile.TemporaryDirectory(dir=job["store"]) as work:
        calls: dict[str, Any] = {}
        rss = {}
        for name, files in job["models"].items():
            progress.at(name)
            for file, digest in files.items():
                path = Path(work, name, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(Path(job["store"], digest), path)
            rss[name] = _rss_mb(str(Path(work, name)), job)
            calls[name] = artifact.load(Path(work, name), job["threads"]).run
        samples = interleaved(calls, examples, job["rounds"], job["warmup"], progress)
    timed = {name: {"samples_ms": taken.tolist(), "rss_mb": rss[name]} for name, taken in samples.items()}
    return {"emulator": "", "timed": timed}


def _rss_mb(folder: str, job: dict[str, Any]) -> float | None:
    """The peak of a fresh process that answers a few examples with the model in ``folder``."""
    inner = {"do": "memory", "folder": folder, "threads": job["threads"], "examples": job["examples"][:4]}
    done = subprocess.run(
        [sys.executable, "-m", MODULE], input=json.dumps(inner), capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    peak: float | None = json.loads(lines[-1]).get("rss_mb") if lines else None
    return peak


def memory(job: dict[str, Any], progress: Told) -> dict[str, Any]:
    """What this process needs at its peak for the model in ``job["folder"]``, MB."""
    from edgekit.devices.examples import from_json
    from edgekit.devices.worker import memory as seen
    from edgekit.runtimes import artifact

    run: Callable[[Any], object] = artifact.load(Path(job["folder"]), job["threads"]).run
    for one in job["examples"]:
        run(from_json(one))
    return seen()


def main() -> int:
    """Read a job, tell its process group (its own) and progress, end with its answer or ``{"error"}``."""
    os.setpgrp()
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # an engine that prints must not spoil the answer

    def tell(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=out, flush=True)

    tell({"group": os.getpgrp()})
    try:
        answer = JOBS[job["do"]](job, Told(tell))
    except EdgekitError as error:
        answer = {
            "error": type(error).__name__,
            "what": error.what,
            "found": None if error.found is None else str(error.found),
            "expected": None if error.expected is None else str(error.expected),
            "fix": error.fix,
        }
    tell(answer)
    return 0


JOBS = {"install": install, "verify": check, "profile": measure, "time": clock, "memory": memory}

if __name__ == "__main__":
    sys.exit(main())
