"""What a report says of dual encoders beside the rest: retrieval both ways, each tower, and what one inference is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from edgekit.report import figures as f

_WAYS = {"text_to_image": "text to picture", "image_to_text": "picture to text"}
_DEPTHS = (1, 5, 10)


def asked(data: dict[str, Any]) -> dict[str, str]:
    """Words for one inference: ``one`` (what is given), ``way`` (from it to what), ``many``."""
    if data["task"].get("task") != "clip":
        return {"one": "one text", "way": "text to answer", "many": "texts"}
    if not any("text" in (model.get("towers") or {}) for model in data["models"]):
        return {"one": "a picture", "way": "picture to embedding", "many": "pictures"}
    return {"one": "a picture and a caption", "way": "both to their embeddings", "many": "pictures"}


def retrieval_rows(stages: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for each stage that was measured by retrieval: R@1, R@5 and R@10 both ways, on the test part.

    With a cached teacher also the mean cosine with what it says of the pictures.
    """
    rows = []
    cached = any("cosine_to_teacher" in stage["details"] for stage in stages)
    for stage in stages:
        found = {
            f"{said}, R@{depth}": stage["details"].get(f"{way}_r{depth}")
            for way, said in _WAYS.items()
            for depth in _DEPTHS
        }
        if any(value is not None for value in found.values()):
            shown = {name: f.metric("recall_at_1", value) for name, value in found.items()}
            near = {"cosine to teacher": f.cosine(stage["details"].get("cosine_to_teacher"))} if cached else {}
            rows.append({"stage": str(stage["stage"]), **shown, **near, "pictures": str(stage["n"])})
    return rows


def tower_rows(data: dict[str, Any]) -> list[dict[str, str]]:
    """Heading -> cell for each tower's file: its precision and size, and what its quantization was measured at."""
    sizes = {entry["path"]: entry["bytes"] for entry in data["files"]}
    rows = []
    for model in data["models"]:
        for name, tower in (model.get("towers") or {}).items():
            stem = str(PurePosixPath(tower["path"]).with_suffix(""))
            size = sum(size for path, size in sizes.items() if str(PurePosixPath(path).with_suffix("")) == stem
                       and _same_engine(path, tower["path"]))  # fmt: skip
            told = _quantized(data["stages"], model, name)
            rows.append(
                {
                    "tower": name,
                    "engine": model["engine"],
                    "file": tower["path"],
                    "precision": tower["precision"],
                    "size": f.size(size or None),
                    "chosen": str(told.get("chosen") or told.get("reason") or f.DASH),
                    "p50, fp32": f.milliseconds(told.get("fp32_p50_ms")),
                    "p50": f.milliseconds(told.get("p50_ms")),
                }
            )
    return rows


def _same_engine(path: str, main: str) -> bool:
    """Whether ``path`` is ``main`` or the weights beside it: .bin belongs to .xml."""
    return path == main or {PurePosixPath(path).suffix, PurePosixPath(main).suffix} == {".bin", ".xml"}


def _quantized(stages: Sequence[dict[str, Any]], model: dict[str, Any], tower: str) -> dict[str, Any]:
    """What the stage that made ``model`` says of ``tower``: one of its engine and precision, else nothing."""
    if model["precision"] == "fp32":
        return {}
    parts = ["quantize", *([] if model["engine"] == "onnxruntime" else [model["engine"]])]
    parts += [] if model["precision"] == "w8a8" else [model["precision"]]
    for stage in stages:
        towers = stage["details"].get("towers")
        if stage["stage"] == "-".join(parts) and isinstance(towers, dict) and isinstance(towers.get(tower), dict):
            return dict(towers[tower])
    return {}
