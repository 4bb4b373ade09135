"""A firmware's main loop: a line from a sensor or a bus comes in, and an answer goes out in time or not at all.

python examples/firmware_loop.py BUNDLE < lines.txt. One JSON line each: the label, or why there is none. The loop never
waits longer than the deadline for an answer, whatever the model does; the governor keeps the board cool meanwhile.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import TimeoutError as NotYet

import edgekit
from edgekit.runtimes import Governor, Stream

DEADLINE_MS = 200.0


def main(bundle: str) -> None:
    """Read, ask, act; then say how it went."""
    model = edgekit.load(bundle, threads=1)
    with Stream(model, deadline_ms=DEADLINE_MS, policy="queue", queue_size=4) as stream, Governor(stream) as governor:
        for line in sys.stdin:
            print(json.dumps(decide(stream, line.strip())), flush=True)
        stats = stream.stats()
        for event in governor.log:
            print(f"governor: {event.action} ({event.reason})", file=sys.stderr)
    print(f"{stats.answers} answers, {stats.miss_rate:.1%} missed", file=sys.stderr)


def decide(stream: Stream, text: str) -> dict[str, object]:
    """What the firmware acts on. Every way in which there may be no answer is one of the last three."""
    try:
        result = stream.submit(text).result(timeout=DEADLINE_MS / 1e3)
    except NotYet:
        return {"text": text, "no_answer": "not within the deadline"}
    if result.dropped is not None:
        return {"text": text, "no_answer": result.dropped}
    if result.error is not None:
        return {"text": text, "no_answer": str(result.error)}
    return {"text": text, "label": result.answer.labels[0], "age_ms": round(result.age_ms, 2)}


if __name__ == "__main__":
    main(sys.argv[1])
