"""What pictures and searches cost on this machine: python benchmarks/pictures.py PICTURE...

For each PICTURE, for a camera frame (1280 x 720, BGR) and for a photograph of 12 megapixels made of the first PICTURE:
  decode      ImagePreprocessor.decode: file or array to an upright RGB picture
  transform   ImagePreprocessor.transform: that to float32 (1, 3, 224, 224)
  reference   transformers' CLIPImageProcessor, file or array to the same values (not where transformers is absent)
  apart       the largest difference between the two, which must stay below 0.01
Then one search for the 10 nearest in an index of random rows of 512 numbers. All in one process, the variants in a new
random order each round; p50 in ms.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from edgekit.runtimes import isa
from edgekit.runtimes.index import Index, recall
from edgekit.runtimes.vision import ImagePreprocessor


def p50(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median ms of each variant, interleaved."""
    samples: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for turn in range(rounds + 3):
        random.shuffle(names)
        for name in names:
            start = time.perf_counter()
            variants[name]()
            if turn >= 3:
                samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(times) for name, times in samples.items()}


def pictures(paths: list[str], rounds: int) -> None:
    prepare = ImagePreprocessor()
    first = Image.open(paths[0]).convert("RGB")
    frame = np.ascontiguousarray(np.asarray(first.resize((1280, 720)))[:, :, ::-1])
    buffer = io.BytesIO()
    first.resize((4000, 3000)).save(buffer, "JPEG", quality=92)
    cases: list[tuple[str, Any, bool]] = [
        ("frame 1280 x 720, BGR", frame, True),
        ("12 MP JPEG", buffer.getvalue(), False),
    ]
    cases += [(path.rpartition("/")[2], path, False) for path in paths]
    process = None
    if find_spec("transformers") is not None:
        from transformers import CLIPImageProcessor

        process = CLIPImageProcessor()
    print("On", isa.machine_name())
    print("| input | decode | transform | reference | apart |\n|---|---|---|---|---|")
    for name, image, bgr in cases:
        picture = prepare.decode(image, bgr)

        def theirs(image: Any = image, bgr: bool = bgr) -> Any:
            assert process is not None
            given = image[:, :, ::-1] if bgr else Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
            return process(given, return_tensors="np")["pixel_values"]

        variants: dict[str, Callable[[], Any]] = {
            "decode": lambda image=image, bgr=bgr: prepare.decode(image, bgr),  # type: ignore[misc]
            "transform": lambda picture=picture: prepare.transform(picture),  # type: ignore[misc]
        }
        if process is not None:
            variants["reference"] = theirs
        found = p50(variants, max(5, rounds // 10) if name.startswith("12 MP") else rounds)
        apart = f"{np.abs(theirs() - prepare(image, bgr)).max():.1e}" if process is not None else ""
        print(
            f"| {name} | {found['decode']:.2f} | {found['transform']:.2f} | {found.get('reference', 0):.2f} | {apart} |"
        )


def searches(rounds: int) -> None:
    random_rows = np.random.default_rng(0)
    query = random_rows.normal(size=(1, 512)).astype(np.float32)
    print("\n| index | float32 | int8 | int8's recall@10 |\n|---|---|---|---|")
    for count in (5_000, 50_000):
        exact = Index(512, "")
        exact.add([str(n) for n in range(count)], random_rows.normal(size=(count, 512)).astype(np.float32))
        small = exact.to_int8()
        found = p50({"exact": lambda: exact.search(query), "int8": lambda: small.search(query)}, rounds)  # noqa: B023
        queries = random_rows.normal(size=(50, 512)).astype(np.float32)
        print(f"| {count} x 512 | {found['exact']:.2f} | {found['int8']:.2f} | {recall(exact, small, queries):.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    pictures(options.pictures, options.rounds)
    searches(options.rounds)
