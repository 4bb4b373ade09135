"""LiteRT's own profiler. Its Python API has none, but the C library in the same wheel does: libLiteRt.so, by ctypes.

The names are those of LiteRT's public C headers (litert/c/*.h); what they point to stays opaque here. The table is read
from the profiler's own summary, a text, because the layout of its events differs from release to release.
"""

from __future__ import annotations

import ctypes
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.devices.operators import Timed
from edgekit.errors import EngineError
from edgekit.runtimes.engines.litert import LiteRtEngine

KNOWN = ("2.3.",)  # releases whose C functions were tried: a call with other arguments would crash
XNNPACK, BUILT_IN = "XNNPACK", "built-in kernels"
_DELEGATED = "Delegate/"
_CPU, _READ, _WRITE = 1, 0, 1  # kLiteRtHwAcceleratorCpu, kLiteRtTensorBufferLockModeRead and Write
_TYPE_BYTES = 512  # more than a LiteRtRankedTensorType takes
_TABLE = re.compile(r"=+ Summary by node type =+\n(.+?)\n\s*\n", re.DOTALL)
_ROW = re.compile(
    r"\s*(?P<op>\S.*?)\s+(?P<nodes>\d+)\s+[\d.]+\s+(?P<share>[\d.]+)%\s+[\d.]+%\s+[\d.]+\s+(?P<calls>\d+)"
)
_TOTAL = re.compile(r"Timings \(microseconds\):.*?\bcurr=(\d+)")


class Profiled(LiteRtEngine):
    """The engine as it serves, but for the model behind it: the C library's, with its profiler on."""

    def __init__(self, model_path: Path, threads: int, *given: Any, **named: Any) -> None:
        super().__init__(model_path, threads, *given, **named)
        if not self.version.startswith(KNOWN):
            raise EngineError(
                f"{self.package}: operators",
                found=f"release {self.version}, whose C functions were not tried",
                expected=", ".join(f"{one}*" for one in KNOWN),
            )
        self._engine = self._compiled = _Compiled(Path(model_path), threads, self._engine)

    def reset(self) -> None:
        """What ran until now does not count."""
        self._compiled.start()

    def timed(self, runs: int) -> list[Timed]:
        """Each operator a run, of the ``runs`` since :meth:`reset`."""
        return from_summary(self._compiled.summary(), runs)


def from_summary(text: str, runs: int) -> list[Timed]:
    """Operators of a profiler's summary of ``runs`` inferences; times a run.

    Its percentages have five digits where its milliseconds have one. Raises ``EngineError`` for a text of another form,
    or of other runs.
    """
    tables, totals = _TABLE.findall(text), _TOTAL.findall(text)
    rows = [row for line in (tables[0].splitlines()[1:] if tables else []) if (row := _ROW.fullmatch(line.rstrip()))]
    if len(tables) != 1 or len(totals) != 1 or len(rows) != len(tables[0].splitlines()) - 1:
        raise EngineError("LiteRT's profiler", found=text[:200].strip() or "nothing", expected="one table of operators")
    found = []
    for row in rows:
        nodes, calls = int(row["nodes"]), int(row["calls"])
        if calls != nodes * runs:
            raise EngineError(
                "LiteRT's profiler", found=f"{calls} calls of {row['op']}", expected=f"{nodes} in each of {runs} runs"
            )
        ms = float(row["share"]) / 100 * int(totals[0]) / 1000 / runs
        provider = XNNPACK if row["op"].startswith(_DELEGATED) else BUILT_IN
        found.append(Timed(row["op"].removeprefix(_DELEGATED), provider, nodes, ms))
    return found


class _Compiled:
    """A model of the C library with the calls of the interpreter that :class:`LiteRtEngine` makes.

    ``places``: the interpreter, which knows where tensors are. Lives as long as its process.
    """

    def __init__(self, path: Path, threads: int, places: Any) -> None:
        folder = Path(str(import_module("ai_edge_litert").__file__)).parent
        self._lib, self._places = ctypes.CDLL(str(folder / "libLiteRt.so")), places
        self._libc = ctypes.CDLL(None)
        self._libc.strdup.restype = ctypes.c_void_p
        self._environment = self._made("CreateEnvironment", 0, None)
        model = self._made("CreateModelFromFile", self._environment, str(path).encode())
        options = self._made("CreateOptions")
        self._call("SetOptionsHardwareAccelerators", options, _CPU)
        self._option(options, b"runtime_options_string", b"enable_profiling = true\n")
        self._option(options, b"xnnpack", f"num_threads = {threads}\n".encode())
        self._model = self._made("CreateCompiledModel", self._environment, model, options)
        self._profiler = self._made("CompiledModelGetProfiler", self._model)
        self._buffers: dict[int, tuple[ctypes.c_size_t, list[list[ctypes.c_void_p]]]] = {}
        self._at: dict[tuple[int, int], ctypes.c_void_p] = {}  # (subgraph, place of a tensor in it)
        count = ctypes.c_size_t()
        self._call("GetNumModelSignatures", model, ctypes.byref(count))
        for number in range(count.value):
            self._signature(self._made("GetModelSignature", model, ctypes.c_size_t(number)), number)

    def _signature(self, signature: ctypes.c_void_p, number: int) -> None:
        """Buffers for all that goes into signature ``number`` and comes out of it."""
        index = ctypes.c_size_t(number)
        key = self._made("GetSignatureKey", signature, kind=ctypes.c_char_p).value.decode()
        known = self._places.GetSignatureDefs()[key]
        subgraph = self._places.GetSubgraphIndexFromSignature(key)
        both: list[list[ctypes.c_void_p]] = []
        for kind in ("Input", "Output"):
            count = ctypes.c_size_t()
            self._call(f"GetNumSignature{kind}s", signature, ctypes.byref(count))
            both.append([])
            for place in map(ctypes.c_size_t, range(count.value)):
                name = self._made(f"GetSignature{kind}Name", signature, place, kind=ctypes.c_char_p).value.decode()
                tensor = self._made(f"GetSignature{kind}TensorByIndex", signature, place)
                shape = ctypes.create_string_buffer(_TYPE_BYTES)
                self._call("GetRankedTensorType", tensor, shape)
                needs = self._made(f"GetCompiledModel{kind}BufferRequirements", self._model, index, place)
                buffer = self._made("CreateManagedTensorBufferFromRequirements", self._environment, shape, needs)
                both[-1].append(buffer)
                self._at[subgraph, known[f"{kind.lower()}s"][name]] = buffer
        self._buffers[subgraph] = index, both

    def _option(self, options: ctypes.c_void_p, name: bytes, text: bytes) -> None:
        """What the C headers do for an option: a text that the library frees."""
        given = ctypes.c_void_p(self._libc.strdup(text))
        self._call("AddOpaqueOptions", options, self._made("CreateOpaqueOptions", name, given, self._libc.free))

    def _made(self, name: str, *given: Any, kind: Any = ctypes.c_void_p) -> Any:
        """What a function gives by its last argument."""
        made = kind()
        self._call(name, *given, ctypes.byref(made))
        return made

    def _call(self, name: str, *given: Any) -> None:
        if status := getattr(self._lib, f"LiteRt{name}")(*given):
            raise EngineError(f"LiteRt{name} of libLiteRt.so", found=f"status {status}", expected="0")

    def start(self) -> None:
        """Count from here on."""
        self._call("StartProfiler", self._profiler)

    def summary(self) -> str:
        """What the profiler has seen since :meth:`start`."""
        self._call("StopProfiler", self._profiler)
        text = self._made("GetProfileSummary", self._profiler, self._model)
        try:
            return ctypes.string_at(text).decode(errors="replace")
        finally:
            self._libc.free(text)

    def AllocateTensors(self, subgraph: int) -> None:
        """All of them have their memory."""

    def SetTensor(self, place: int, values: npt.NDArray[Any], subgraph: int) -> None:
        """Write an input."""
        buffer = self._at[subgraph, place]
        self._call("LockTensorBuffer", buffer, ctypes.byref(memory := ctypes.c_void_p()), _WRITE)
        ctypes.memmove(memory, np.ascontiguousarray(values).ctypes.data, values.nbytes)
        self._call("UnlockTensorBuffer", buffer)

    def Invoke(self, subgraph: int) -> None:
        """Run it."""
        index, both = self._buffers[subgraph]
        arrays = [part for one in both for part in (ctypes.c_size_t(len(one)), (ctypes.c_void_p * len(one))(*one))]
        self._call("RunCompiledModel", self._model, index, *arrays)

    def GetTensor(self, place: int, subgraph: int) -> npt.NDArray[Any]:
        """Read an output."""
        found = np.empty(self._places.TensorSize(place, subgraph), self._places.TensorType(place, subgraph))
        buffer = self._at[subgraph, place]
        self._call("LockTensorBuffer", buffer, ctypes.byref(memory := ctypes.c_void_p()), _READ)
        ctypes.memmove(found.ctypes.data, memory, found.nbytes)
        self._call("UnlockTensorBuffer", buffer)
        return found
