"""Engines that fail on demand, as a guarded model's ``wrap_engine`` hook takes them."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.runtimes.engines import Engine

# A worker looks here before each inference; the file holds the fault's name and is gone once the fault was taken.
ORDER = "EDGEKIT_TEST_FAULT"


class Faults:
    """What the engines wrapped by :meth:`wrap` do wrong: ``orders``, by engine name or "*", each taken once."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, str]] = []
        self.always: dict[str, str] = {}
        self.release = threading.Event()
        self.engines: list[weakref.ref[Faulty]] = []
        self.refuse: set[str] = set()
        self.poison: int | None = None  # inputs of so many tokens throw

    def wrap(self, engine: Engine, name: str) -> Engine:
        """The hook."""
        if name in self.refuse:
            raise RuntimeError(f"{name} does not start")
        made = Faulty(engine, lambda given: self._next(name, given), self.release)
        self.engines.append(weakref.ref(made))
        return made

    def once(self, fault: str, engine: str = "*") -> None:
        """Let the next inference fail."""
        self.orders.append((engine, fault))

    def _next(self, name: str, given: Any) -> str:
        if given.shape[1] == self.poison:
            return "throw"
        if name in self.always:
            return self.always[name]
        for order in self.orders:
            if order[0] in ("*", name):
                self.orders.remove(order)
                return order[1]
        return ""


class Faulty:
    """An engine with a fault before or after each inference."""

    def __init__(self, engine: Engine, fault: Any, release: threading.Event) -> None:
        self._engine, self._fault, self._release = engine, fault, release
        self.version, self.inputs, self.output_width = engine.version, engine.inputs, engine.output_width
        self.batching, self.length_step = engine.batching, engine.length_step

    def run(self, ids: Any, mask: Any) -> Any:
        fault = self._fault(ids)
        before(fault, self._release)
        return after(fault, self._engine.run(ids, mask))

    def run_one(self, values: Any) -> Any:
        fault = self._fault(values)
        before(fault, self._release)
        return after(fault, self._engine.run_one(values))


def before(fault: str, release: threading.Event) -> None:
    if fault == "hang":
        release.wait(60)
    elif fault == "throw":
        raise RuntimeError("the engine has lost its mind")
    elif fault == "crash":
        ctypes.string_at(0)  # a read of address 0: a real SIGSEGV
    elif fault == "exit":
        os._exit(3)
    elif fault == "leak":
        _LEAKED.append(np.ones(200_000_000 // 8))
    elif fault == "shared leak":
        _LEAKED.append(mmap.mmap(-1, 200_000_000))
        for _ in range(200):  # in pieces: the whole at once would be private memory first
            _LEAKED[-1].write(b"1" * 1_000_000)


_LEAKED: list[Any] = []


def after(fault: str, output: Any) -> Any:
    if fault == "nan":
        output = output.copy()
        output[0, 0] = np.nan
    elif fault == "shape":
        output = output[:, :-1].copy()
    elif fault == "rows":
        output = np.concatenate([output, output])
    elif fault == "dtype":
        output = output.astype(np.float64)
    elif fault == "wrong":
        output = output + np.float32(1)
    return output


def by_order(engine: Engine, name: str) -> Engine:
    """The hook of a worker: takes its orders from the file named in ``ORDER``."""
    del name

    def fault(given: Any) -> str:
        del given
        order = Path(os.environ[ORDER])
        try:
            found = order.read_text()
        except OSError:
            return ""
        order.unlink()
        return found

    return Faulty(engine, fault, threading.Event())
