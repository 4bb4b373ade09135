"""Which execution provider runs how much of a model: what onnxruntime assigned, or what it was seen to run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.runtimes.engines.providers import CPU, GPU_PROVIDERS

ASSIGNED, RAN = "assigned", "ran"


@dataclass(frozen=True)
class Placement:
    """``asked``: providers that were asked for; ``registered``: those of the session; ``nodes``: how many each has.

    ``basis``: "assigned" (of the model's own nodes, as onnxruntime distributed them), "ran" (of the nodes of its
    optimised graph that ran in one inference; what a provider fused is one), "" where ``nodes`` is not told.
    """

    asked: tuple[str, ...] = (CPU,)
    registered: tuple[str, ...] = (CPU,)
    nodes: Mapping[str, int] = field(default_factory=dict)
    basis: str = ""

    @property
    def gpu_share(self) -> float | None:
        """Share of the nodes that a GPU provider has, 0 to 1; None where it is not told. 0 where none is there."""
        if not any(one in GPU_PROVIDERS for one in self.registered):
            return 0.0
        total = sum(self.nodes.values())
        return sum(self.nodes.get(one, 0) for one in GPU_PROVIDERS) / total if total else None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "asked": list(self.asked),
            "registered": list(self.registered),
            "nodes": dict(self.nodes),
            "basis": self.basis,
            "gpu_share": self.gpu_share,
        }

    def __str__(self) -> str:
        if not self.nodes:
            told = ", ".join(self.registered)
            return told if self.gpu_share == 0 else f"{told}; which nodes each has is not told"
        total = sum(self.nodes.values())
        parts = [f"{name} {count}" for name, count in sorted(self.nodes.items(), key=lambda one: -one[1])]
        return f"{', '.join(parts)} of {total} nodes ({self.basis})"


def of_assignment(subgraphs: Iterable[Any]) -> dict[str, int]:
    """Nodes a provider, of what ``InferenceSession.get_provider_graph_assignment_info()`` gives."""
    found: Counter[str] = Counter()
    for one in subgraphs:
        found[one.ep_name] += len(one.get_nodes())
    return dict(found)


def of_profile(path: Path) -> dict[str, int]:
    """Nodes a provider that ran, of the file that onnxruntime's profiler wrote. A file that is none gives none."""
    try:
        events = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    ran: dict[tuple[str, str], str] = {}  # a node that ran twice counts once; several may lack a name
    for event in events if isinstance(events, list) else []:
        name = str(event.get("name")) if isinstance(event, dict) else ""
        given = event.get("args") if name.endswith("_kernel_time") else None
        if isinstance(given, dict) and isinstance(given.get("provider"), str) and given["provider"]:
            ran[name, str(given.get("node_index"))] = given["provider"]
    return dict(Counter(ran.values()))


def placements(loaded: Mapping[str, object]) -> dict[str, Placement]:
    """Those of the engines by role that tell: onnxruntime's."""
    return {
        role: found for role, one in loaded.items() if isinstance(found := getattr(one, "placement", None), Placement)
    }
