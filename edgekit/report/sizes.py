"""What the bytes of a bundle are, and what a device needs to copy for one engine."""

from __future__ import annotations

from typing import Any

_NAMED = {
    "tokenizer.json": "tokenizer",
    "golden.safetensors": "golden vectors",
    "prompts.safetensors": "prompt bank",
}


def parts(data: dict[str, Any]) -> list[tuple[str, int]]:
    """Name and bytes of each part of the bundle, the largest first; together every file that the manifest lists."""
    left = {entry["path"]: int(entry["bytes"]) for entry in data["files"]}
    found: dict[str, int] = {}
    for model in data["models"]:
        name = f"{model['engine']} {model['precision']}"
        for path in (model["path"], *model.get("parts", [])):
            found[name] = found.get(name, 0) + left.pop(path, 0)
    for path, size in left.items():
        name = _NAMED.get(path, "recipe, licences, rest")
        found[name] = found.get(name, 0) + size
    return sorted(((name, size) for name, size in found.items() if size), key=lambda part: -part[1])


def by_engine(data: dict[str, Any]) -> dict[str, int]:
    """Engine -> bytes that a device copies to run the bundle in it alone; {} where the bundle does not say."""
    for stage in reversed(data["stages"]):
        found = stage["details"].get("size_bytes_by_engine")
        if isinstance(found, dict):
            return {str(engine): int(size) for engine, size in found.items() if isinstance(size, int | float)}
    return {}
