"""What a board file may say, as frozen records. docs/boards/README.md describes the file.

Every group of facts has ``sources``: keys of the file's own table of sources. What no source tells is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgekit.bundle.record import Record
from edgekit.errors import InputError

KINDS = ("board", "phone")
ARCHITECTURES = ("aarch64", "x86_64")
ACCELERATORS = ("gpu", "npu")


@dataclass(frozen=True)
class Source(Record):
    """Where facts come from: a title, and the address of what can be read there (none for a printed data sheet)."""

    title: str
    url: str = ""


@dataclass(frozen=True)
class Cores(Record):
    """``count`` processor cores of one kind. ``max_mhz``: their highest clock; ``part``: "CPU part" of /proc/cpuinfo.

    ``isa``: features as the Linux kernel names them, all that matter for inference and are there.
    """

    name: str
    count: int
    sources: list[str]
    max_mhz: float | None = None
    part: str = ""
    isa: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Soc(Record):
    """A chip. A phone that is sold with several has one entry each; ``where`` says which one is in which."""

    name: str
    cores: list[Cores]
    sources: list[str]
    where: str = ""


@dataclass(frozen=True)
class Memory(Record):
    """``sizes_gb``: what it is sold with, in GiB; ``bandwidth_gb_s``: the highest, in 10^9 bytes a second."""

    sources: list[str]
    kind: str = ""
    sizes_gb: list[float] = field(default_factory=list)
    bandwidth_gb_s: float | None = None


@dataclass(frozen=True)
class Accelerator(Record):
    """``tops``: stated INT8 operations a second, in 10^12. ``used``: whether any of edgekit's engines uses it here."""

    name: str
    kind: str
    sources: list[str]
    tops: float | None = None
    used: bool = False
    note: str = ""


@dataclass(frozen=True)
class EngineSupport(Record):
    """An engine on this board: the ``package`` and ``version`` whose ``wheel`` fits; ``runs`` False: it has none."""

    name: str
    sources: list[str]
    runs: bool = True
    package: str = ""
    version: str = ""
    wheel: str = ""
    note: str = ""


@dataclass(frozen=True)
class Sensor(Record):
    """``what`` is measured, and ``how``: a file or a command."""

    what: str
    how: str
    sources: list[str]


@dataclass(frozen=True)
class Governor(Record):
    """Set points in degrees Celsius: ``soft_c``, where the board begins to slow down; ``hard_c``, its limit."""

    sources: list[str]
    soft_c: float | None = None
    hard_c: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Fault(Record):
    """What is known to break. ``package`` and ``versions`` ("==1.21.0", ">=2,<3", "" for all) say when it concerns one.

    ``machine``: only where ``uname -m`` gives this ("armv7l"); ``instead``: what to do.
    """

    what: str
    instead: str
    sources: list[str]
    package: str = ""
    versions: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Identity(Record):
    """How the board shows: device tree ``compatible`` and ``model``, DMI ``product``, ``cpu`` as in /proc/cpuinfo.

    ``compatible`` entries are compared whole, the others as beginnings.
    """

    sources: list[str]
    compatible: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=list)
    product: list[str] = field(default_factory=list)
    cpu: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Board(Record):
    """One board or phone; ``key`` is the name of its file. Raises :class:`InputError` for what cannot be meant."""

    key: str
    name: str
    kind: str
    architecture: str
    socs: list[Soc]
    sources: dict[str, Any]
    memory: Memory | None = None
    accelerators: list[Accelerator] = field(default_factory=list)
    engines: list[EngineSupport] = field(default_factory=list)
    sensors: list[Sensor] = field(default_factory=list)
    governor: Governor | None = None
    faults: list[Fault] = field(default_factory=list)
    identity: Identity | None = None
    schema_version: int = 1

    def __post_init__(self) -> None:
        if self.schema_version != 1:
            raise InputError("schema_version", found=self.schema_version, expected="1")
        for name, value, known in (("kind", self.kind, KINDS), ("architecture", self.architecture, ARCHITECTURES)):
            if value not in known:
                raise InputError(name, found=repr(value), expected=", ".join(known))
        for one in self.accelerators:
            if one.kind not in ACCELERATORS:
                where = f"accelerators: {one.name}: kind"
                raise InputError(where, found=repr(one.kind), expected=", ".join(ACCELERATORS))
        if not self.socs or any(not soc.cores or any(c.count < 1 for c in soc.cores) for soc in self.socs):
            raise InputError("socs", found="none, or one without cores", expected="each with 1 core or more")
        listed = {key: Source.from_dict(value, f"sources: {key}") for key, value in self.sources.items()}
        used = {key for facts in self.facts for key in facts.sources}
        for facts in self.facts:
            if not facts.sources:
                raise InputError(f"{facts}"[:80], found="no sources", expected="one or more")
        if used != set(listed):
            wrong = ", ".join(sorted(used ^ set(listed)))
            raise InputError("sources", found=f"{wrong}: used and not listed, or listed and not used", expected="both")
        for key, source in listed.items():
            if not source.title or (source.url and not source.url.startswith("https://")):
                raise InputError(f"sources: {key}", found=source, expected="a title, and an https address or none")

    @property
    def facts(self) -> list[Any]:
        """Every group that has sources."""
        single = [one for one in (self.memory, self.governor, self.identity) if one is not None]
        cores = [cores for soc in self.socs for cores in soc.cores]
        several = [*self.accelerators, *self.engines, *self.sensors, *self.faults]
        return [*self.socs, *cores, *single, *several]

    @property
    def cores(self) -> int:
        """Cores of the first chip."""
        return sum(cores.count for cores in self.socs[0].cores)

    @property
    def isa(self) -> list[str]:
        """Features that all cores of the first chip have, in the order of the first."""
        first, *others = (cores.isa for cores in self.socs[0].cores)
        return [flag for flag in first if all(flag in other for other in others)]
