"""A cached CLIP teacher: an image tower that follows real ViT-B/32 embeddings, judged by zero-shot on imagenette.

    python benchmarks/clip_cached.py [--data ../shared/data/image_text] [--output build/clip_cached]

Real CLIP embeddings of 2,140 Flickr8k photographs train EfficientNet-Lite0; real CLIP embeddings of class prompts tell
ten classes of another data set apart, of which the student has seen no picture. For some classes there is no prompt of
that name: `CANDIDATES` lists those of near meaning, and imagenette's 600 training pictures choose among them. The mean
picture's direction is taken out of every prompt: all pictures share it, and prompts lean towards it unequally.
"""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.data.folders import read_folder
from edgekit.evaluate.intervals import exact_share
from edgekit.recipe import load_recipe
from edgekit.runtimes import isa

RECIPE = Path(__file__).parent / "recipes" / "clip_cached.yaml"
# Rows of the files of prompts; LVIS by its names. Objects365's and Open Images' numbers are those of their own lists.
CANDIDATES = {
    "tench": ["lvis fish", "lvis goldfish", "oid 303 fish"],
    "English springer": ["lvis dog", "lvis puppy", "oid 489 dog"],
    "cassette player": ["lvis cassette", "lvis CD_player", "lvis radio_receiver", "lvis record_player"],
    "chain saw": ["o365 357 chainsaw", "lvis handsaw"],
    "church": ["oid 44 building", "oid 90 tower", "oid 252 castle", "oid 11 house"],
    "French horn": ["o365 340 French horn", "oid 298 horn", "lvis bass_horn", "o365 316 tuba", "o365 246 trumpet"],
    "garbage truck": ["lvis garbage_truck"],
    "gas pump": ["lvis parking_meter", "lvis vending_machine", "lvis telephone_booth", "o365 250 parking meter"],
    "golf ball": ["oid 195 golf ball", "o365 248 golf ball"],
    "parachute": ["lvis parachute", "oid 403 parachute"],
}
CLASSES = dict(
    zip(
        CANDIDATES,
        "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257".split(),
        strict=True,
    )
)
FILES = {"lvis": "lvis_v1_clip_a+cname.npy", "o365": "o365_clip_a+cnamefix.npy", "oid": "oid_clip_a+cname.npy"}


def prompts(data: Path) -> dict[str, np.ndarray]:
    """Every candidate's embedding (512,), the mean picture's direction taken out, unit length."""
    folder = data / "clip_vitb32_text_embeddings"
    names = json.loads((folder / "lvis_names.json").read_text("utf-8"))
    rows = {name: np.load(folder / file).astype(np.float64) for name, file in FILES.items()}
    pictures = np.load(data / "flickr8k" / "clip_vitb32_image_embeddings.npz")["embeddings"].astype(np.float64)
    mean = pictures.mean(axis=0)
    found = {}
    for one in chain.from_iterable(CANDIDATES.values()):
        source, _, rest = one.partition(" ")
        row = names.index(rest) if source == "lvis" else int(rest.split()[0]) - 1
        text = rows[source][row] / np.linalg.norm(rows[source][row])
        text = text - (text @ mean) / (mean @ mean) * mean
        found[one] = text / np.linalg.norm(text)
    return found


def choose(images: np.ndarray, labels: np.ndarray, texts: dict[str, np.ndarray]) -> list[str]:
    """A candidate a class: those with which most of ``images`` (n, 512) find their class, changed one at a time."""
    options = list(CANDIDATES.values())
    chosen = [names[0] for names in options]

    def right(names: list[str]) -> float:
        return float((np.argmax(images @ np.stack([texts[n] for n in names]).T, axis=1) == labels).mean())

    for _ in range(3):
        for place, names in enumerate(options):
            chosen[place] = max(names, key=lambda n, at=place: right([*chosen[:at], n, *chosen[at + 1 :]]))  # type: ignore[misc]
    return chosen


def pictures(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures and the row of their class in ``CANDIDATES``."""
    found = read_folder(folder)
    order = [list(CLASSES.values()).index(name) for name in found.names]
    return [found.pictures.open(row) for row in range(len(found))], np.array([order[label] for label in found.labels])


def zero_shot(model: Any, images: list[np.ndarray], labels: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Share of ``images`` that find their class, with its interval and by class."""
    best = np.argmax(model.zero_shot(images, names, top_k=1).cosines, axis=1)
    hit = best == labels
    low, high = exact_share(int(hit.sum()), len(hit))
    each = {name: round(float(hit[labels == row].mean()), 3) for row, name in enumerate(CANDIDATES)}
    return {"zero_shot": float(hit.mean()), "low": low, "high": high, "n": len(hit), "classes": each, "hits": hit}


def asked(about: str | None, output: Path, recipe: Path) -> tuple[argparse.Namespace, dict[str, np.ndarray], Path]:
    """Arguments, with their defaults; the prompts, and the file that a recipe finds them in."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/image_text"))
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--recipe", type=Path, default=recipe)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    texts = prompts(args.data)
    bank = args.output / "prompts.npz"
    np.savez(bank, names=np.array(list(texts)), embeddings=np.stack(list(texts.values())).astype(np.float32))
    return args, texts, bank


def main() -> None:
    args, texts, bank = asked(__doc__, Path("build/clip_cached"), RECIPE)
    recipe = load_recipe(args.recipe, {"prompts.embeddings": str(bank.resolve())})
    bundle = compress(recipe, args.output / "clip_cached.edge", overwrite=True).bundle
    training, trained = pictures(args.data / "imagenette" / "train")
    images, labels = pictures(args.data / "imagenette" / "val")
    chosen: list[str] = []
    rows = []
    for file in open_bundle(bundle).manifest.models:
        model = edgekit.load(bundle, file=file.path, engine=file.engine)
        chosen = chosen or choose(model.embed_images(training), trained, texts)
        found = zero_shot(model, images, labels, chosen)
        rows.append({"engine": file.engine, "precision": file.precision, **found})
    print("On", isa.machine_name())
    print(json.dumps({"prompts": dict(zip(CANDIDATES, chosen, strict=True))}, indent=1, ensure_ascii=False))
    plain = {row["engine"]: row["hits"] for row in rows if row["precision"] == "fp32"}
    for row in rows:
        lost = float(plain[row["engine"]].mean() - row["hits"].mean()) * 100
        share, low, high = (100 * row[key] for key in ("zero_shot", "low", "high"))
        told = f"{share:.2f} % [{low:.2f}, {high:.2f}] of {row['n']}, {-lost:+.2f} points"
        print(f"{row['engine']:12} {row['precision']:5} {told}; {row['classes']}")


if __name__ == "__main__":
    main()
