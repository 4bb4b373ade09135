"""Streams on a real bundle: overload, overhead, heat. python benchmarks/stream.py [BUNDLE] [--figures overload,...]

BUNDLE: of task classify, embed or tag; by default build/sentiment.edge, as `make compress` makes it. One thread.
  overhead  the same text by a direct call, by each way into an idle stream, and through a bare thread pool, which shows
            what handing over to another thread and back costs here; in random order, with a rest before each. The
            difference to the direct call of the same round; median, with a 95 % bootstrap interval
  overload  items come at three times what the model can do. Ages of the answers with policy latest, and in a queue
            without bound (a plain FIFO), in units of the model's own time: the median, in that very run, of
            preprocessing, model and postprocessing of an answer. Beside it the p99 of that very time, which no stream
            can undo, and the same stream where the model is a wait that always lasts the median: what the policy costs
  heat      a board is simulated: its temperature follows the share of time in which the model ran, with a time
            constant, and goes into telemetry files with noise. The stream runs for real, under the governor
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import edgekit
from edgekit.bundle import open_bundle
from edgekit.errors import EdgekitError
from edgekit.runtimes import Governor, GovernorSettings, Ladder, Rung, Stream, Telemetry, isa
from edgekit.runtimes.model import Model
from edgekit.runtimes.realtime.records import Result
from edgekit.runtimes.realtime.settings import Band

FIGURES = ("overhead", "overload", "heat")
OVERLOAD = 3.0
AMBIENT, FULL, TAU_S = 45.0, 95.0, 8.0  # °C idle, °C of a model that always runs, s


def main() -> int:
    """Parse, measure, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("build/sentiment.edge"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--figures", default=",".join(FIGURES))
    parser.add_argument("--words", type=int, nargs="+", default=[10, 110], help="lengths of the text for overload")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each overload run")
    parser.add_argument("--heat-seconds", type=float, default=180.0)
    given = parser.parse_args()
    if not given.bundle.is_dir():
        print(f"no bundle at {given.bundle}: `make compress` makes one", file=sys.stderr)
        return 0
    model = load(given.bundle, given.engine)
    print(f"{given.bundle.name}, {model.file} in {model.engine}, one thread; {isa.machine_name()}\n")
    if "overhead" in given.figures:
        overhead(model, given.rounds)
    if "overload" in given.figures:
        for words in given.words:
            overload(model, text_of(words), words, given.seconds)
    if "heat" in given.figures:
        heat(given.bundle, model, given.heat_seconds)
    return 0


def load(bundle: Path, engine: str = "auto", file: str | None = None) -> Model:
    """Of texts."""
    model = edgekit.load(bundle, threads=1, engine=engine, file=file)
    if not isinstance(model, Model):
        sys.exit(f"{bundle.name}: a bundle of texts is wanted")
    for words in (10, 110):
        for _ in range(20):
            model.run(text_of(words))
    return model


def text_of(words: int) -> str:
    """So many words."""
    some = "the film is a charming and funny story that never quite takes off".split()
    return " ".join(some[place % len(some)] for place in range(words))


def overhead(model: Model, rounds: int) -> None:
    """What a stream costs over a direct call when nothing else is going on."""
    text, loop = text_of(10), asyncio.new_event_loop()
    with Stream(model, deadline_ms=1000) as stream, ThreadPoolExecutor(1) as pool:

        async def wait() -> Result:
            return await stream.run_async(text)

        ways: dict[str, Callable[[], object]] = {
            "direct call": lambda: model.run(text),
            "stream.run": lambda: stream.run(text),
            "stream.submit(...).result()": lambda: stream.submit(text).result(),
            "await stream.run_async": lambda: loop.run_until_complete(wait()),
            "bare thread pool": lambda: pool.submit(model.run, text).result(),
        }
        samples = {name: np.zeros(rounds) for name in ways}
        draw = random.Random(0)
        for way in ways.values():
            for _ in range(50):
                way()
        gc.disable()
        for turn in range(rounds):
            for name in draw.sample(list(ways), len(ways)):
                time.sleep(0.005)
                start = time.perf_counter()
                ways[name]()
                samples[name][turn] = 1e3 * (time.perf_counter() - start)
        gc.enable()
    loop.close()
    generator = np.random.default_rng(0)
    print("| way | p50, ms | over the direct call, p50, ms (95 % interval) |\n|---|---|---|")
    for name, values in samples.items():
        extra = values - samples["direct call"]
        drawn = [float(np.median(generator.choice(extra, rounds))) for _ in range(1000)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        shown = "" if name == "direct call" else f"{np.median(extra):.3f} ({low:.3f} to {high:.3f})"
        print(f"| {name} | {np.median(values):.3f} | {shown} |")
    print()


def overload(model: Model, text: str, words: int, seconds: float) -> None:
    """Ages of answers at three times the capacity."""
    capacity = 1 / capacity_s(model, text)
    print(f"{words} words, {OVERLOAD * capacity:.0f} items a second, capacity {capacity:.0f}\n")
    print("| policy | model time p50, ms | its p99, in p50 | age p50 | age p99 | largest | answered of brought |")
    print("|---|---|---|---|---|---|---|")
    for name, policy, size, served in (
        ("latest", "latest", 1, model),
        ("latest, a model that never varies", "latest", 1, Steady(model, 1 / capacity)),
        ("plain FIFO", "queue", 65536, model),
    ):
        results: list[Result] = []
        stream = Stream(served, policy=policy, queue_size=size)
        camera(stream, text, OVERLOAD * capacity, seconds, results)
        stream.close()
        answers = [result for result in results if result.ok][20:]
        ages = np.array([result.age_ms for result in answers])
        own = np.array([one.preprocess_ms + one.model_ms + one.postprocess_ms for one in answers])
        unit = float(np.median(own))
        p50, p99 = np.percentile(ages, [50, 99]) / unit
        tail = np.percentile(own, 99) / unit
        share = stream.stats().answers / stream.stats().requests
        print(
            f"| {name} | {unit:.2f} | {tail:.2f} | {p50:.2f} | **{p99:.2f}** | {ages.max() / unit:.2f} | {share:.0%} |"
        )
    print()


class Steady:
    """``model`` with a wait of ``seconds`` in place of its engine: answers are of no interest, times are."""

    def __init__(self, model: Model, seconds: float) -> None:
        self.model, self.seconds = model, seconds

    def prepare(self, text: str) -> object:
        """As the model's."""
        return self.model.prepare(text)

    def forward(self, prepared: object) -> object:
        """The wait."""
        time.sleep(self.seconds)
        return prepared

    def finish(self, prepared: object, raw: object) -> object:
        """Nothing to do."""
        return raw


def capacity_s(model: Model, text: str) -> float:
    """Median time of an inference, in a loop without a rest."""
    times = []
    for _ in range(200):
        start = time.perf_counter()
        model.run(text)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def camera(
    stream: Stream, text: str, hz: float, seconds: float, results: list[Result], stop: threading.Event | None = None
) -> None:
    """Bring ``text`` at a steady rate; a frame whose time has passed is brought at once."""
    due = start = time.monotonic()
    while due - start < seconds and not (stop and stop.is_set()):
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        stream.submit(text, callback=results.append)
        due += 1 / hz


class Board(threading.Thread):
    """Telemetry files of a board that heats up: first order, driven by the share of time that the model ran."""

    def __init__(self, root: Path, stream: Stream) -> None:
        super().__init__()
        self.zone = root / "sys/class/thermal/thermal_zone0"
        self.zone.mkdir(parents=True)
        self.stream, self.celsius, self.stop = stream, AMBIENT, threading.Event()
        self.noise = np.random.default_rng(0)
        self.show()

    def show(self) -> None:
        """Write the file as the kernel would, a degree of noise on it."""
        new = self.zone / "new"
        new.write_text(f"{round(1000 * (self.celsius + self.noise.normal(0, 1)))}\n")
        new.replace(self.zone / "temp")

    def run(self) -> None:
        """Until it is stopped."""
        before, busy = time.monotonic(), 0.0
        while not self.stop.wait(0.1):
            now, total = time.monotonic(), self.stream.stats().total_s
            ran = total["model"] + total["preprocess"] + total["postprocess"]
            load = min(1.0, (ran - busy) / (now - before))
            self.celsius += (AMBIENT + (FULL - AMBIENT) * load - self.celsius) * (now - before) / TAU_S
            before, busy = now, ran
            self.show()


def heat(bundle: Path, model: Model, seconds: float) -> None:
    """What the governor does about it."""
    files = [one.path for one in open_bundle(bundle, check_hashes=False).manifest.models if one.path != model.file]
    slower = [load(bundle, file=path) for path in files if engine_is_there(bundle, path)]
    text = text_of(110)
    rungs = sorted([model, *slower], key=lambda one: -capacity_s(one, text))
    ladder = Ladder(
        [Rung(one.file, one) for one in (rungs[0], rungs[-1])] if len(rungs) > 1 else [Rung("model", model)]
    )
    settings = GovernorSettings(
        temperature_c=Band(80, 70), critical_c=None, period_s=0.25, settle_s=TAU_S, recover_s=TAU_S
    )
    stop, rows = threading.Event(), []
    hz = 1.5 / capacity_s(rungs[0], text)
    with tempfile.TemporaryDirectory() as root, Stream(ladder) as stream:
        board = Board(Path(root), stream)
        results: list[Result] = []
        film = threading.Thread(target=camera, args=(stream, text, hz, seconds, results, stop))
        start = time.monotonic()
        with Governor(stream, settings, Telemetry(root).read) as governor:
            board.start()
            film.start()
            while film.is_alive():
                film.join(1.0)
                results.clear()
                now = time.monotonic() - start
                rows.append((now, board.celsius, governor.stage, stream.answer_hz(1.0), stream.stats().rung))
            log = list(governor.log)
        board.stop.set()
        board.join()
    print(f"Board: {AMBIENT:g} °C idle, {FULL:g} °C at full load, time constant {TAU_S:g} s, noise 1 °C; ", end="")
    print(f"trouble from 80 °C, fine up to 70 °C; {hz:.0f} items a second, rungs {[r.name for r in ladder.rungs]}\n")
    print("| s | °C | actions in force | answers a second | rung |\n|---|---|---|---|---|")
    for now, celsius, stage, rate, rung in rows[:: max(1, len(rows) // 30)]:
        print(f"| {now:.0f} | {celsius:.1f} | {stage} | {rate:.0f} | {rung} |")
    print(f"\n{len(log)} transitions in {seconds:.0f} s; hottest {max(row[1] for row in rows):.1f} °C")
    for event in log:
        print(f"- {event.at - start:.1f} s: {event.action} ({event.reason})")
    crossed = next((now for now, celsius, *_ in rows if celsius >= 80), None)
    if crossed is not None:
        before = float(np.median([rate for now, _, _, rate, _ in rows if 2 < now <= crossed]))
        halved = next((now for now, _, _, rate, _ in rows if now >= crossed and rate <= 0.6 * before), None)
        if halved is not None:
            took = halved - crossed
            print(f"\nFrom 80 °C to 0.6 of the rate: {took:.1f} s, {took / TAU_S:.2f} time constants")


def engine_is_there(bundle: Path, path: str) -> bool:
    """Whether ``path`` can be loaded here."""
    try:
        edgekit.load(bundle, threads=1, file=path)
    except EdgekitError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
