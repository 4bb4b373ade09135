"""An onnxruntime that claims a GPU. It computes on the CPU: what is asked of TensorRT is seen, nothing of it is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from edgekit.runtimes.engines.providers import CPU, CUDA, TENSORRT


class Session:
    """A session on the CPU that says it has ``registered`` providers, the first of them with all nodes but one."""

    def __init__(self, real: Any, registered: Sequence[str], given: dict[str, dict[str, str]]) -> None:
        self.real, self.registered, self.given = real, list(registered), given
        self.fallback = True

    def get_providers(self) -> list[str]:
        return self.registered

    def disable_fallback(self) -> None:
        self.fallback = False

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [node for one in self.real.get_provider_graph_assignment_info() for node in one.get_nodes()]
        return [
            SimpleNamespace(ep_name=self.registered[0], get_nodes=lambda: nodes[1:]),
            SimpleNamespace(ep_name=CPU, get_nodes=lambda: nodes[:1]),
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class StandIn:
    """The package. ``built``: providers that it claims; ``starting``: those whose libraries "are there"."""

    def __init__(self, built: Sequence[str] = (TENSORRT, CUDA, CPU), starting: Sequence[str] | None = None) -> None:
        self.built, self.starting = list(built), list(built if starting is None else starting)
        self.sessions: list[Session] = []
        self.InferenceSession = type("InferenceSession", (), {"get_provider_graph_assignment_info": None})
        self.InferenceSession.__new__ = self._open  # type: ignore[method-assign, assignment]

    def _open(self, _: type, path: str, options: Any, providers: list[Any]) -> Any:
        given = dict((one, {}) if isinstance(one, str) else one for one in providers)
        real = onnxruntime.InferenceSession(path, options, providers=[CPU])
        if list(given) == [CPU]:
            return real
        session = Session(real, [one for one in given if one in self.starting], given)
        if TENSORRT in session.registered:
            (Path(given[TENSORRT]["trt_engine_cache_path"]) / "edgekit_0.engine").write_bytes(b"a stand-in")
        self.sessions.append(session)
        return session

    def get_available_providers(self) -> list[str]:
        return self.built

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)


def install(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> StandIn:
    """Let edgekit find ``stand_in`` where it looks for onnxruntime."""
    monkeypatch.setattr("edgekit.runtimes.engines.onnxruntime.import_onnxruntime", lambda: stand_in)
    return stand_in
