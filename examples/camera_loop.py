"""A camera loop from a video file: the newest frame is labelled, the others are let go.

python examples/camera_loop.py BUNDLE VIDEO "a cat,a dog" [--every]. BUNDLE: of task clip. VIDEO: an animated picture
that Pillow reads (GIF, WebP, PNG) or a file of JPEG pictures one after the other (.mjpeg, 25 a second). It plays at its
own speed, as a camera would; --every labels each frame instead. Without labels those of the bundle's prompt bank.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageSequence

import edgekit
from edgekit.runtimes import Stream, ZeroShotClassifier
from edgekit.runtimes.dual import DualModel

MJPEG_S = 1 / 25
START = b"\xff\xd8\xff"  # of a JPEG picture


def frames(video: Path) -> Iterator[object]:
    """Its pictures, each when its time has come."""
    due = time.monotonic()
    for picture, seconds in stills(video):
        yield picture
        due += seconds
        time.sleep(max(0.0, due - time.monotonic()))


def stills(video: Path) -> Iterator[tuple[object, float]]:
    """Its pictures, and for how long each is shown, s."""
    if video.suffix in (".mjpeg", ".mjpg"):
        end = b"\xff\xd9"
        for part in video.read_bytes().split(end + START):  # inside a picture the two never follow each other
            yield START + part.removeprefix(START).removesuffix(end) + end, MJPEG_S
        return
    with Image.open(video) as opened:
        for frame in ImageSequence.Iterator(opened):
            yield frame.convert("RGB"), frame.info.get("duration", 40) / 1e3


def main(bundle: str, video: str, labels: list[str], every: bool) -> None:
    """A JSON line an answer; the stream's own figures at the end."""
    model = edgekit.load(bundle, threads=1)
    if not isinstance(model, DualModel):
        sys.exit(f"{bundle} is not of task clip")
    classifier = ZeroShotClassifier(model, labels or None, top_k=1)
    with Stream(classifier, policy="all" if every else "latest") as stream:
        for result in stream.over(frames(Path(video))):
            best = result.get()[0][0]
            print(json.dumps({"frame": result.number, "label": best.name, "age_ms": round(result.age_ms, 2)}))
    stats = stream.stats()
    print(f"{stats.requests} frames, {stats.answers} labelled", file=sys.stderr)


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--every"]
    names = given[2].split(",") if len(given) > 2 else []
    main(given[0], given[1], names, "--every" in sys.argv)
