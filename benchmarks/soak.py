"""A guarded model in a stream at 80 % of its capacity, with faults at random: python benchmarks/soak.py BUNDLE

The capacity is the highest rate, in steps of 5 %, at which no request misses its deadline for ten seconds without a
fault.
Faults come one after another, each some seconds after the one before was over, drawn from --seed:
  hang       one inference blocks for several hang limits
  throw, nan the engine raises; its outputs are NaN
  crash      a real SIGSEGV in the worker (with --isolate)
  heat       every inference takes three times as long, for two seconds
  memory     another process takes and touches --pressure-mb, for two seconds
  file       a byte of the model file is flipped, and the session fails: the restart meets the damage; repaired in 2 s
  clock      the wall clock jumps by up to ten days, forwards or backwards
A fault's window is from its injection until it is over, the first choice serves again, and half a second has passed; a
request is in it that was on its way, from its capture to its deadline, in that time.

Each answer is compared with what the very file that gave it answers without faults. A request misses its deadline when
it is dropped, late or without an answer. Memory is what is resident (with --isolate the worker's too) and what this
process holds of malloc's memory; each slope is over block means after the first fifth, with its 95 % interval
(Student's t). Misses outside of windows are grouped, each group beside the fault before it and how long the
machine itself stood still, and what the host that it shares took of its cores (steal).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soak_faults
from soak_report import Kept, Stalls, blocks_mb, bursts, heap_mb, slope, stolen_s

from edgekit.bundle import open_bundle
from edgekit.errors import NoAnswer
from edgekit.runtimes import Guarded, Stream, isa
from edgekit.runtimes.load import load_file
from edgekit.runtimes.realtime.records import REASONS
from edgekit.runtimes.recovery import Event

LASTS_S = 2.0  # heat, memory pressure, a damaged file
GRACE_S = 0.5
TOLERANCE = 1e-3  # of the largest number: far below what separates two answers
WHYS = ("no answer", *REASONS)  # "late" too for an answer that came after its deadline
SERVING = ("start", "restart", "next engine", "last good bundle", "return")
TAKE = "import sys, time; held = b'1' * (int(sys.argv[1]) * 1000000); time.sleep(float(sys.argv[2]))"


class Traced:
    """A guarded model whose answers come with the candidate that gave them."""

    def __init__(self, model: Guarded) -> None:
        self.model = model

    def prepare(self, text: str) -> Any:
        """As the model's."""
        return self.model.prepare(text)

    def forward(self, prepared: Any) -> Any:
        """As the model's."""
        return self.model.forward(prepared)

    def finish(self, prepared: Any, raw: Any) -> Any:
        """The answer as an array, and where it comes from."""
        answer = self.model.finish(prepared, raw)
        session = raw.prepared.session
        return getattr(answer, "logits", answer), (str(session.candidate.bundle), session.candidate.choice.file)


class Recoveries:
    """Seconds from each fault to the next session that serves, as the guarded model's hook tells them."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=10_000)
        self._since: float | None = None

    def __call__(self, event: Event) -> None:
        """The hook."""
        now = time.monotonic()
        if event.step == "fault" and self._since is None:
            self._since = now
        elif event.step in SERVING and self._since is not None:
            self.seconds.append(now - self._since)
            self._since = None


class Tally:
    """What became of the requests; filled by the stream's threads."""

    def __init__(self, right: dict[tuple[str, str], dict[str, Any]]) -> None:
        self.right = right
        self.counts: Counter[str] = Counter()
        self.missed = Kept()
        self.ages_ms: deque[float] = deque(maxlen=50_000)
        self.crashes: deque[str] = deque(maxlen=20)
        self._lock = threading.Lock()

    def __call__(self, result: Any) -> None:
        """One result."""
        why = ""
        if result.dropped is not None:
            why = result.dropped
        elif result.error is not None:
            why = "no answer"
            if not isinstance(result.error, NoAnswer):
                self.crashes.append(repr(result.error))
        else:
            found, source = result.answer
            expected = self.right[source][result.item]
            if found.shape != expected.shape or np.abs(found - expected).max() > TOLERANCE * np.abs(expected).max():
                self.counts["wrong"] += 1
            why = "late" if result.late else ""
            self.ages_ms.append(result.age_ms)
        with self._lock:
            self.counts["requests"] += 1
            self.counts["answers"] += result.ok
            if why:
                self.missed.add(result.captured, WHYS.index(why))


def right_answers(bundles: list[Path], texts: list[str], threads: int) -> dict[tuple[str, str], dict[str, Any]]:
    """What each file of each bundle answers without faults."""
    found = {}
    for path in bundles:
        bundle = open_bundle(path)
        for entry in bundle.manifest.models:
            model = load_file(bundle, entry, threads)
            found[str(path), entry.path] = {text: model.raw([text])[""][0][None] for text in texts}
    return found


class Injector:
    """Makes one fault at a time, and knows when it is over."""

    def __init__(
        self, model: Guarded, file: Path, kinds: list[str], seed: int, hang_s: float, pressure_mb: int
    ) -> None:
        self.model, self.file, self.kinds, self.draw = model, file, kinds, random.Random(seed)
        self.hang_s, self.pressure_mb = hang_s, pressure_mb
        self.done: Counter[str] = Counter()
        self.windows: list[tuple[float, float, str]] = []
        self.jump_s = 0.0
        self._open: tuple[float, float, str] | None = None  # since, until, kind
        self._undo: Callable[[], object] = lambda: None

    def clock(self) -> float:
        """The wall clock that jumps."""
        return time.time() + self.jump_s

    def begin(self) -> None:
        """A fault of a kind that is drawn."""
        kind, now = self.draw.choice(self.kinds), time.monotonic()
        until = now + LASTS_S if kind in ("heat", "memory", "file") else now
        self._undo = lambda: None
        if kind == "hang":
            until = now + 4 * self.hang_s
            soak_faults.order("hang", until)
        elif kind == "memory":
            taker = subprocess.Popen([sys.executable, "-c", TAKE, str(self.pressure_mb), str(LASTS_S)])
            self._undo = taker.wait
        elif kind == "file":
            whole = self.file.read_bytes()
            place = self.draw.randrange(len(whole))
            self.file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            self._undo = lambda: self.file.write_bytes(whole)
            soak_faults.order("throw")
        elif kind == "clock":
            self.jump_s += self.draw.uniform(-10, 10) * 86_400
        else:
            soak_faults.order(kind, until)
        self.done[kind] += 1
        self._open = now, until, kind

    def over(self) -> bool:
        """Whether no fault is under way; ends one whose time has come."""
        if self._open is None:
            return True
        since, until, kind = self._open
        if time.monotonic() < until:
            return False
        self._undo()
        self._undo = lambda: None
        if self.model.health()["state"] != "serving":
            return False
        self.windows.append((since, time.monotonic() + GRACE_S, kind))
        self._open = None
        return True


def rss_mb(model: Guarded) -> float:
    """Of this process and the worker, 10^6 bytes."""
    with open("/proc/self/statm") as file:
        own = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return (own + (model.health()["worker_rss_bytes"] or 0)) / 1e6


def soak(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run it; see the module."""
    main = Path(shutil.copytree(given.bundle, work / "main.edge"))
    good = Path(shutil.copytree(given.bundle, work / "good.edge"))
    os.environ[soak_faults.ORDER] = str(work / "order")
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    golden = open_bundle(main).manifest.golden["texts"]
    texts = [text for text in golden if 0 < len(text) < 200]
    tally, recoveries = Tally(right_answers([main, good], texts, given.threads)), Recoveries()
    kinds = ["hang", "throw", "nan", "heat", "memory", "file", "clock", *(["crash"] if given.isolate else [])]
    hang_s = 3 * given.deadline_ms / 1e3
    with ExitStack() as stack:
        wall: list[Callable[[], float]] = [time.time]
        model = stack.enter_context(
            Guarded(
                main,
                threads=given.threads,
                engines=given.engines,
                deadline_ms=given.deadline_ms,
                hang_deadlines=3,
                isolate=given.isolate,
                recheck_minutes=1,
                last_good=good,
                patience_ms=0,
                backoff_s=(0.25, 2),
                wrap_engine="soak_faults:wrap" if given.isolate else soak_faults.wrap,
                on_event=recoveries,
                clock=lambda: wall[0](),
            )
        )
        injector = Injector(model, main / model.file, kinds, given.seed, hang_s, given.pressure_mb)
        wall[0] = injector.clock
        capacity = measure_capacity(model, texts, tally.right, given.deadline_ms, given.calibrate)
        stream = stack.enter_context(stream_of(model, given.load * capacity, given.deadline_ms))
        every_s = 1 / (given.load * capacity)
        stalls = Stalls()
        began = time.monotonic()
        end, tick, number = began + 60 * given.minutes, began, 0
        quiet_until, next_sample = began + given.every, began
        memory, heap, stolen, next_look = Kept(), Kept(), Kept(), began
        while tick < end:
            now = time.monotonic()
            if now < tick:
                time.sleep(tick - now)
            stream.submit(texts[number % len(texts)], captured=tick, callback=tally)
            number, tick = number + 1, max(tick + every_s, time.monotonic() - given.deadline_ms / 1e3)
            if number % 16 == 0:
                now = time.monotonic()
                if now >= next_look:
                    stolen.add(now, stolen_s())
                    next_look = now + 1
                if injector.over():
                    if injector.windows and now < injector.windows[-1][1]:
                        quiet_until = injector.windows[-1][1] + injector.draw.expovariate(1 / given.every)
                    elif now >= quiet_until and now < end - 4 * hang_s - LASTS_S - 1:
                        injector.begin()
                    elif now >= next_sample:
                        memory.add(now - began, rss_mb(model))
                        heap.add(now - began, heap_mb())
                        next_sample = now + 1
        stream.close(drain=True)
        lasted, health, stood = time.monotonic() - began, model.health(), stalls.end()
    missed = [(at, WHYS[int(why)]) for at, why in tally.missed()]
    window_s = sum(b - a for a, b, _ in injector.windows)
    spans = [(a - given.deadline_ms / 1e3, b) for a, b, _ in injector.windows]
    strays = [(at, why) for at, why in missed if not any(a <= at <= b for a, b in spans)]
    outside = Counter(why for _, why in strays)
    return {
        "minutes": lasted / 60,
        "seed": given.seed,
        "isolate": given.isolate,
        "machine": isa.machine(),
        "engine": health["engine"],
        "capacity_hz": capacity,
        "rate_hz": given.load * capacity,
        "deadline_ms": given.deadline_ms,
        "queue_size": stream.queue_size,
        "faults": dict(injector.done),
        "requests": tally.counts["requests"],
        "answers": tally.counts["answers"],
        "wrong": tally.counts["wrong"],
        "crashes": list(tally.crashes),
        "window_share": window_s / lasted,
        "missed_inside": len(missed) - outside.total(),
        "missed_outside": dict(outside),
        "bursts_outside": bursts(strays, injector.windows, stood, stolen(), began),
        "age_p50_ms": float(np.percentile(tally.ages_ms, 50)) if tally.ages_ms else None,
        "age_p99_ms": float(np.percentile(tally.ages_ms, 99)) if tally.ages_ms else None,
        "recoveries": len(recoveries.seconds),
        "recovery_p50_ms": 1e3 * float(np.percentile(recoveries.seconds, 50)) if recoveries.seconds else None,
        "recovery_p95_ms": 1e3 * float(np.percentile(recoveries.seconds, 95)) if recoveries.seconds else None,
        "rss_mb": float(memory()[-1, 1]) if len(memory()) else None,
        "rss_blocks_mb": blocks_mb(memory()),
        "rss_slope_mb_per_hour": slope(memory()),
        "heap_blocks_mb": blocks_mb(heap()),
        "heap_slope_mb_per_hour": slope(heap()),
        "stalls": len(stood),
        "stalled_s": sum(b - a for a, b in stood),
        "stolen_s": float(stolen()[-1, 1] - stolen()[0, 1]) if len(stolen()) else None,
        "steps": health["steps"],
        "state": health["state"],
    }


def stream_of(model: Guarded, rate_hz: float, deadline_ms: float) -> Stream:
    """A queue with room for half a deadline: what waits there is answered in the other half."""
    return Stream(Traced(model), deadline_ms, policy="queue", queue_size=max(1, round(rate_hz * deadline_ms / 2e3)))


def measure_capacity(
    model: Guarded, texts: list[str], right: dict[Any, Any], deadline_ms: float, seconds: float
) -> float:
    """The highest rate, Hz, at which requests come steadily for so many seconds and none misses its deadline.

    Tried from what the stream answers when four are always on their way, downwards in steps of 5 %.
    """
    with stream_of(model, 1000.0, deadline_ms) as stream:
        rate = flood(stream, texts, Tally(right), seconds)
    for _ in range(40):
        tally = Tally(right)
        with stream_of(model, rate, deadline_ms) as stream:
            pace(stream, texts, rate, tally, seconds)
        if not len(tally.missed()):
            return rate
        rate *= 0.95
    raise SystemExit(f"no rate down to {rate:.0f} Hz is served without a missed deadline")


def flood(stream: Stream, texts: list[str], tally: Tally, seconds: float) -> float:
    """Requests a second that the stream answers and ``tally`` compares, with always four on their way."""
    began, waiting, number, finished = time.monotonic(), threading.Semaphore(4), 0, 0.0

    def done(result: Any) -> None:
        tally(result)
        waiting.release()

    while (now := time.monotonic()) - began < seconds:
        waiting.acquire()
        stream.submit(texts[number % len(texts)], deadline_ms=1e6, callback=done)
        number, finished = number + 1, now
    return number / (finished - began)


def pace(stream: Stream, texts: list[str], rate_hz: float, tally: Tally, seconds: float) -> None:
    """Bring requests at a steady rate."""
    began = time.monotonic()
    for number in range(round(seconds * rate_hz)):
        tick = began + number / rate_hz
        time.sleep(max(0.0, tick - time.monotonic()))
        stream.submit(texts[number % len(texts)], captured=tick, callback=tally)


def main() -> int:
    """Parse, run, print; 1 when something crashed or a wrong answer came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("build/sentiment.edge"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--load", type=float, default=0.8, help="share of the capacity")
    parser.add_argument("--calibrate", type=float, default=10.0, help="seconds of each try that finds the capacity")
    parser.add_argument("--every", type=float, default=5.0, help="mean seconds between the faults")
    parser.add_argument("--deadline-ms", type=float, default=100.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engines", type=lambda text: text.split(","), default=None)
    parser.add_argument("--isolate", action="store_true")
    parser.add_argument("--pressure-mb", type=int, default=400)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = soak(given, Path(work))
    print(json.dumps(found, indent=1))
    return 1 if found["crashes"] or found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
