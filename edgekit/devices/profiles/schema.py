"""A profile's JSON, version 1: every key, its unit and its bounds. docs/profile.schema.json is made of this.

Needs pydantic, which the command line brings. A board that only measures never imports this.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

VERSION = 1
MAX_ROWS, MAX_SAMPLES, MAX_POINTS, MAX_TEXT = 2_000, 100_000, 20_000, 8_000

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**31)]
Amount = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=0, le=1.001)]
Celsius = Annotated[float, Field(ge=-60, le=200)]
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Samples = Annotated[list[Amount], Field(max_length=MAX_SAMPLES)]


class Part(BaseModel):
    """The base of all: strict types, finite numbers; keys that this version does not know are kept."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())


class Environment(Part):
    """The machine, when the measurement began. null: it does not show that."""

    cpu: Text | None = Field(None, description="The processor's name.")
    architecture: Text | None = Field(None, description="As `uname -m` says.")
    isa: Text | None = Field(None, description="The instruction set that decides about INT8 kernels.")
    flags: list[Text] = Field([], max_length=500, description="Processor features that matter to inference.")
    virtual: bool | None = Field(None, description="Whether it is a virtual machine.")
    cpus: Count | None = Field(None, description="Logical processors of the machine.")
    affinity: Count | None = Field(None, description="Those that the process may run on.")
    cgroup_cpus: Amount | None = Field(None, description="The cgroup's quota, in processors.")
    usable_cpus: Count | None = Field(None, description="What is left of both.")
    memory_mb: Amount | None = Field(None, description="Memory of the machine, 10^6 bytes.")
    memory_limit_mb: Amount | None = Field(None, description="The cgroup's limit, 10^6 bytes.")
    governor: Text | None = Field(None, description="cpufreq governor of the first processor.")
    frequency_mhz: dict[Text, Amount] | None = Field(None, description="Its current, min and max clock.")
    temperature_c: Celsius | None = Field(None, description="The hottest sensor, before the first run.")
    load_average: list[Amount] | None = Field(None, max_length=3, description="Over 1, 5 and 15 minutes.")
    os: Text | None = Field(None, description="Name of the system.")
    kernel: Text | None = Field(None, description="Its kernel.")
    python: Text | None = Field(None, description="Version of Python.")
    edgekit: Text | None = Field(None, description="Version of edgekit.")
    versions: dict[Text, Text] = Field({}, max_length=200, description="Versions of the packages that take part.")


class Row(Part):
    """One model file in one engine, with one number of threads, one batch size and one length of input."""

    engine: Text = Field(description="onnxruntime, openvino, litert, tflite-runtime, onnxruntime-web, litert-web.")
    engine_version: Text = Field("", description="Its version.")
    file: Text = Field(description="Path of the model file in the bundle.")
    precision: Text = Field("", description="Of the file: fp32, fp16, w8a8, w8a16.")
    threads: Positive = Field(description="Threads that the engine was given.")
    batch: Positive = Field(1, description="Inputs at once.")
    tower: Literal["image", "text"] | None = Field(None, description="Which tower of a dual encoder.")
    length: Positive | None = Field(None, description="Tokens asked for; null for pictures.")
    tokens: Count | None = Field(None, description="Tokens that the first text came to.")
    group: Count | None = Field(None, description="Rows of the same number took turns.")
    runs: Count | None = Field(None, description="Runs that count.")
    warmup: Count | None = Field(None, description="Runs before them, the first one not among them.")
    warmup_stable: bool | None = Field(None, description="Whether the warm-up ended because times were level.")
    load_ms: Amount | None = Field(None, description="From before the first import to a model that is ready.")
    first_ms: Amount | None = Field(None, description="The first inference.")
    p50_ms: Amount | None = Field(None, description="Median of the runs, preprocessing to answer.")
    p90_ms: Amount | None = Field(None, description="90th percentile.")
    p95_ms: Amount | None = Field(None, description="95th percentile.")
    p99_ms: Amount | None = Field(None, description="99th percentile; with fewer than 100 runs close to the maximum.")
    max_ms: Amount | None = Field(None, description="The slowest run.")
    mean_ms: Amount | None = Field(None, description="Mean of the runs.")
    mean_low_ms: Amount | None = Field(None, description="Lower end of the mean's 95 % interval (block bootstrap).")
    mean_high_ms: Amount | None = Field(None, description="Upper end of it.")
    jitter_ms: Amount | None = Field(None, description="p95 minus p50.")
    decode_p50_ms: Amount | None = Field(None, description="Median time to decode a picture.")
    preprocess_p50_ms: Amount | None = Field(None, description="Median time to tokenize, or to resize and normalise.")
    model_p50_ms: Amount | None = Field(None, description="Median time in the engine.")
    postprocess_p50_ms: Amount | None = Field(None, description="Median time from outputs to an answer.")
    search_p50_ms: Amount | None = Field(None, description="Median time to search an index.")
    cpu_ms: Amount | None = Field(None, description="Processor time a run, all threads together, mean.")
    utilisation: Amount | None = Field(None, description="Processor time over wall time over threads; 1: all busy.")
    rss_mb: Amount | None = Field(None, description="Peak resident memory of the process, 10^6 bytes.")
    rss_steady_mb: Amount | None = Field(None, description="Resident memory after the runs.")
    pss_mb: Amount | None = Field(None, description="The same with pages that are shared counted in parts.")
    energy_mj: Amount | None = Field(None, description="Energy a run, whole board or processor; null: not measured.")
    energy_source: Text = Field("", description="The sensor that told it.")
    instructions_m: Amount | None = Field(None, description="Millions of instructions an inference (emulated boards).")
    samples_ms: Samples = Field([], description="Every run that counts, in the order in which they ran.")


class Choice(Part):
    """What did best."""

    engine: Text = Field(description="Its engine.")
    file: Text = Field(description="Its model file.")
    threads: Positive = Field(description="Its threads.")
    why: Text = Field("", description="In words.")


class Failed(Part):
    """What could not be measured."""

    file: Text = Field(description="Model file.")
    engine: Text = Field(description="Engine.")
    cause: Text = Field(description="What the engine said.")


class Check(Part):
    """One check of the bundle on that machine."""

    name: Text = Field(description="What was checked.")
    ok: bool = Field(description="Whether it held.")
    detail: Text = Field("", description="In words.")


class Verified(Part):
    """The bundle's own checks, there."""

    ok: bool = Field(description="Whether all held.")
    checks: list[Check] = Field([], max_length=1_000, description="One by one.")


class Series(Part):
    """One entry a slice of time; null where the board did not tell."""

    t_s: list[Amount] = Field(max_length=MAX_POINTS, description="Seconds since the start, at the end of each slice.")
    p50_ms: list[Amount | None] = Field(max_length=MAX_POINTS, description="Median of the slice's runs.")
    temperature_c: list[Celsius | None] | None = Field(
        None, max_length=MAX_POINTS, description="The hottest sensor; null: not measured."
    )
    frequency_mhz: list[Amount | None] | None = Field(
        None, max_length=MAX_POINTS, description="Clock of the slowest core; null: not measured."
    )
    throttled: list[bool | None] | None = Field(
        None, max_length=MAX_POINTS, description="Whether the board held itself back; null: not measured."
    )
    power_w: list[Amount | None] | None = Field(
        None, max_length=MAX_POINTS, description="What it drew; null: not measured."
    )

    @model_validator(mode="after")
    def _as_long(self) -> Series:
        for name in ("p50_ms", "temperature_c", "frequency_mhz", "throttled", "power_w"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.t_s):
                raise ValueError(f"{name} has {len(values)} entries, t_s has {len(self.t_s)}")
        return self


class Sustain(Part):
    """One configuration under load without a pause."""

    file: Text = Field(description="Model file.")
    engine: Text = Field(description="Engine.")
    threads: Positive = Field(description="Threads.")
    length: Positive | None = Field(None, description="Tokens; null for pictures.")
    seconds: Amount = Field(description="How long it really ran.")
    runs: Count | None = Field(None, description="Inferences in that time.")
    window_s: Amount | None = Field(None, description="What counts as the first and as the last minute, in s.")
    first_minute_p50_ms: Amount | None = Field(None, description="Median of the first minute.")
    last_minute_p50_ms: Amount | None = Field(None, description="Median of the last minute.")
    ratio: Amount | None = Field(None, description="Last over first; above 1 it became slower.")
    start_c: Celsius | None = Field(None, description="Temperature before the load.")
    limit_c: Celsius | None = Field(None, description="The set point that it was held against.")
    throttle_flags: list[Text] | None = Field(None, max_length=20, description="Flags that were ever set; null: none.")
    series: Series = Field(description="Over time.")


class OpRow(Part):
    """All calls of one kind of operator on one provider."""

    op: Text = Field(description="The engine's name of the operator.")
    kind: Text = Field(
        description="matmul, convolution, attention, normalise, activation, elementwise, softmax, gather, quantize, "
        "reduce, layout, fused, or other: the same words for all engines."
    )
    provider: Text = Field(description="The execution provider, delegate or device that ran it.")
    calls: Count = Field(description="Calls in one inference.")
    ms: Amount = Field(description="Time an inference, mean.")
    share: Share = Field(description="Of the time of all operators.")


class Provider(Part):
    """A provider's or delegate's part of the time."""

    provider: Text = Field(description="Execution provider, delegate or device.")
    share: Share = Field(description="Of the time of all operators.")


class Ops(Part):
    """Time of each operator, from the engine's own profiler. Profiling slows a run down: shares count, not sums."""

    file: Text = Field(description="Model file.")
    engine: Text = Field(description="Engine.")
    threads: Positive | None = Field(None, description="Threads.")
    length: Positive | None = Field(None, description="Tokens; null for pictures.")
    tower: Text | None = Field(None, description="Tower of a dual encoder.")
    runs: Count | None = Field(None, description="Inferences that it is a mean of.")
    reason: Text = Field("", description="Why it was not measured; then there are no rows.")
    rows: list[OpRow] = Field([], max_length=5_000, description="The most time first.")
    providers: list[Provider] = Field([], max_length=100, description="The most time first.")


class ProfileFile(Part):
    """Latency, memory and heat of a bundle on one machine, with all samples."""

    schema_version: Literal[1] = Field(description="Version of this form. Keys may be added within one.")
    bundle: Text = Field(description="The bundle's name or path, as it was given.")
    bundle_sha256: Sha256 = Field("", description="Of its manifest.json, which holds the hashes of all its files.")
    files: dict[Text, Sha256] = Field({}, max_length=4096, description="sha256 of each file of the bundle, by path.")
    basis: Literal["measured", "emulated"] = Field(
        "measured", description="emulated: under qemu, where no time means anything; times are dropped when it is read."
    )
    created: Text = Field("", description="UTC, ISO 8601.")
    target: Text = Field("local", description="local, ssh://user@host:port, or browser.")
    board: Text = Field("", description="The board file that the machine was recognised as, if any.")
    environment: Environment = Field(description="The machine.")
    rows: list[Row] = Field(max_length=MAX_ROWS, description="What was measured.")
    choice: Choice | None = Field(None, description="The engine, file and threads that did best.")
    failed: list[Failed] = Field([], max_length=MAX_ROWS, description="What could not be measured.")
    interleaved: bool | None = Field(None, description="Whether the rows took turns; false: one after the other.")
    verified: Verified | None = Field(None, description="Golden vectors on that machine.")
    sustain: Sustain | None = Field(None, description="A long run.")
    ops: list[Ops] = Field([], max_length=MAX_ROWS, description="Time of each operator.")

    @model_validator(mode="after")
    def _measured_rows_have_times(self) -> ProfileFile:
        for place, row in enumerate(self.rows):
            if self.basis == "measured" and row.p50_ms is None:
                raise ValueError(f"rows[{place}].p50_ms is missing from a measured profile")
        return self
