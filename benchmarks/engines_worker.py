"""One system of benchmarks/engines.py in a process of its own: embeds, and times blocks of calls in its turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

WARMUP = 15
WORDS = "the film was a quiet surprise and we stayed until its very end while rain fell on an old town".split()


@dataclass(frozen=True)
class System:
    """``kind``: edgekit, torch, onnx or openvino; ``path``: the bundle or model folder; ``file``: the file in it."""

    name: str
    kind: str
    path: str
    file: str
    size: int
    int8: bool
    config: tuple[tuple[str, str], ...] = ()


def serve(system: System, threads: int, pipe: Connection) -> None:
    """Answer questions until the pipe closes."""
    try:
        subject = _Edgekit(system, threads) if system.kind == "edgekit" else _SentenceTransformer(system, threads)
    except Exception as error:
        pipe.recv()
        pipe.send(error)
        return
    while True:
        try:
            verb, argument = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(getattr(subject, verb)(argument))
        except Exception as error:
            pipe.send(RuntimeError(f"{system.name}: {error!r}"))


class _Subject:
    """``alone``: the engine on ready token ids; ``whole``: from text to embedding."""

    alone: Callable[[], Any]
    whole: Callable[[], Any]

    def time(self, count: int) -> tuple[list[float], list[float]]:
        """Milliseconds of ``count`` calls of each."""
        return _time(self.alone, count), _time(self.whole, count)


class _Edgekit(_Subject):
    def __init__(self, system: System, threads: int) -> None:
        import edgekit

        self.model = edgekit.load(system.path, threads=threads, file=system.file)

    def embed(self, texts: list[str]) -> Any:
        return self.model.embed(texts)

    def prepare(self, length: int) -> int:
        text = _text(length, lambda t: len(self.model.pipeline.preprocessor.windows([t])[0].ids))
        prepared = self.model.prepare(text)
        self.alone = lambda: self.model.forward(prepared)
        self.whole = lambda: self.model.embed(text)
        _warm(self)
        return length


class _SentenceTransformer(_Subject):
    def __init__(self, system: System, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        options: dict[str, Any] = {}
        if system.kind == "onnx":
            import onnxruntime

            session = onnxruntime.SessionOptions()
            session.intra_op_num_threads = threads
            options = {"file_name": system.file, "session_options": session, "provider": "CPUExecutionProvider"}
        elif system.kind == "openvino":
            config = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY", **dict(system.config)}
            options = {"file_name": system.file, "ov_config": config, "device": "CPU"}
        self.kind = system.kind
        self.model = SentenceTransformer(system.path, backend=system.kind, model_kwargs=options, device="cpu")
        self.inner = self.model.transformers_model

    def embed(self, texts: list[str]) -> Any:
        return self.model.encode(texts, batch_size=1, normalize_embeddings=True)

    def prepare(self, length: int) -> int:
        tokenizer = self.model.tokenizer
        text = _text(length, lambda t: len(tokenizer(t)["input_ids"]))
        self.whole = lambda: self.model.encode(text)
        self.alone = self._engine(tokenizer(text, return_tensors="np"))
        _warm(self)
        return length

    def _engine(self, tokens: Any) -> Callable[[], Any]:
        """Their engine without their Python around it: the session itself, on arrays that are ready."""
        import torch

        if self.kind == "torch":
            ready = {name: torch.from_numpy(value) for name, value in tokens.items()}

            def run() -> Any:
                with torch.inference_mode():
                    return self.inner(**ready)

            return run
        if self.kind == "onnx":
            session = self.inner.model
            names = {value.name for value in session.get_inputs()}
            feed = {name: value for name, value in tokens.items() if name in names}
            return lambda: session.run(None, feed)
        self.model.encode("a")  # compiles
        request = self.inner.request
        names = {name for port in request.inputs for name in port.get_names()}
        feed = {name: value for name, value in tokens.items() if name in names}
        return lambda: request(feed)


def _text(length: int, count: Callable[[str], int]) -> str:
    """Words until the text has ``length`` tokens, special ones included."""
    words: list[str] = []
    while count(" ".join(words)) < length:
        words.append(WORDS[len(words) % len(WORDS)])
    return " ".join(words)


def _warm(subject: _Subject) -> None:
    for _ in range(WARMUP):
        subject.alone()
        subject.whole()


def _time(call: Callable[[], Any], count: int) -> list[float]:
    found = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        found.append((time.perf_counter_ns() - began) / 1e6)
    return found
