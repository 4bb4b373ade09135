"""The runtime with pictures: python benchmarks/clip_runtime.py BUNDLE [--pictures 5000]

In a fresh process where torch, timm, open_clip, transformers and other training libraries cannot be imported: import,
load and one zero-shot answer. Then a folder of rendered pictures is indexed with `edgekit index`'s own function and
searched both ways: captions that should find their picture, pictures that should find themselves. Last, what one search
with a picture costs, p50 of 200, split into decode, preprocess, model and search.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image

BLOCKED = ("torch", "torchvision", "timm", "open_clip", "transformers", "onnx", "pandas", "scipy", "sklearn", "typer")


def render(folder: Path, count: int) -> dict[str, str]:
    """``count`` rendered pictures as JPEG files; file name -> its first caption."""
    from edgekit.data.rendered import RenderedConfig, load_rendered

    data = load_rendered(RenderedConfig(2000, validation=2, test=count, seed=1)).test
    captions = {}
    for row in range(len(data)):
        name = f"{row:05d}.jpg"
        Image.fromarray(data.pictures.open(row)).save(folder / name, quality=90)
        captions[name] = data.captions_of(row)[0]
    return captions


def child(bundle: str, folder: str, captions: dict[str, str]) -> dict[str, float]:
    """All that is measured, in a process without training libraries."""
    sys.modules.update(dict.fromkeys(BLOCKED))
    first = sorted(Path(folder).glob("*.jpg"))[0]
    began = time.perf_counter()
    import edgekit

    imported = time.perf_counter()
    model = edgekit.load(bundle, threads=1)
    loaded = time.perf_counter()
    labels = ["a red circle", "a blue square", "a green star"]
    model.zero_shot([first], labels)
    answered = time.perf_counter()
    from edgekit.runtimes.index_build import build_index

    index = build_index(Path(folder), model).index
    indexed = time.perf_counter()
    names = list(captions)
    by_text = [model.search(captions[name], index, 10) for name in names[:500]]
    by_picture = [model.search(Path(folder) / name, index, 1) for name in names[:500]]
    parts: dict[str, list[float]] = {part: [] for part in ("decode", "preprocess", "model", "search", "all")}
    pre = model.images.preprocessor
    for name in names[:200]:
        marks = [time.perf_counter()]
        picture = pre.decode(Path(folder) / name)
        marks.append(time.perf_counter())
        pixels = pre.transform(picture)
        marks.append(time.perf_counter())
        row = model.embed_pixels(pixels)
        marks.append(time.perf_counter())
        index.search(row, 10)
        marks.append(time.perf_counter())
        for part, start, end in zip(parts, marks, marks[1:], strict=False):
            parts[part].append((end - start) * 1e3)
        parts["all"].append((marks[-1] - marks[0]) * 1e3)
    found = {f"{part}_p50_ms": round(median(values), 3) for part, values in parts.items()}
    hits = [[Path(hit.name).name for hit in answer] for answer in by_text]
    return {
        "import_s": round(imported - began, 3),
        "load_s": round(loaded - imported, 3),
        "first_zero_shot_s": round(answered - loaded, 3),
        "indexed": len(index),
        "index_s": round(indexed - answered, 2),
        "caption_finds_picture_r1": sum(hit[0] == name for hit, name in zip(hits, names, strict=False)) / len(hits),
        "caption_finds_picture_r10": sum(name in hit for hit, name in zip(hits, names, strict=False)) / len(hits),
        "picture_finds_itself": sum(
            Path(answer[0].name).name == name for answer, name in zip(by_picture, names, strict=False)
        )
        / len(by_picture),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        captions = json.loads((Path(args.child) / "captions.json").read_text("utf-8"))
        print(json.dumps(child(args.bundle, str(Path(args.child) / "pictures"), captions)))
        return
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "pictures").mkdir()
        captions = render(Path(work) / "pictures", args.pictures)
        (Path(work) / "captions.json").write_text(json.dumps(captions), "utf-8")
        command = [sys.executable, __file__, args.bundle, "--child", work]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    from edgekit.runtimes import isa  # not above: the child times what it takes to import edgekit

    print(json.dumps({"machine": isa.machine(), **json.loads(answer.splitlines()[-1])}, indent=1))


if __name__ == "__main__":
    main()
