"""The parsers: what each format says, and that nothing else breaks them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.runtimes.telemetry.android import parse_thermalservice
from edgekit.runtimes.telemetry.jetson import parse_tegrastats
from edgekit.runtimes.telemetry.linux import meminfo, psi
from edgekit.runtimes.telemetry.pi import parse_temperature, parse_throttled
from edgekit.runtimes.telemetry.readings import Readings, hottest, input_power, number

QUICK = settings(max_examples=60, deadline=None)  # no deadline: the machine may be busy
NANO = (
    "RAM 2145/3964MB (lfb 118x4MB) SWAP 0/1982MB (cached 0MB) CPU [25%@1479,35%@1479,off,25%@102] EMC_FREQ 10%@1600 "
    "GR3D_FREQ 0%@921 NVENC 115 AO@45C GPU@43C PMIC@100C CPU@46.5C thermal@46.2C "
    "POM_5V_IN 4250/4300 POM_5V_CPU 1520/1520"
)
ORIN = (
    "11-22-2026 10:00:00 RAM 3456/15388MB (lfb 20x4MB) SWAP 0/7694MB (cached 0MB) CPU [12%@1420,off,5%@1190] "
    "EMC_FREQ 24%@2133 GR3D_FREQ 0%@[306] cpu@52.5C soc2@50C tj@53.562C cv0@-256C "
    "VDD_IN 5000mW/5100mW VDD_SOC 1104mW/1104mW"
)
DUMP = """IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=AP, mStatus=4}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=25.6, mType=0, mName=AP, mStatus=0}
\tTemperature{mValue=31.25, mType=3, mName=SKIN, mStatus=0}
\tTemperature{mValue=4200.0, mType=6, mName=BCL, mStatus=0}
\tTemperature{mValue=97.0, mType=8, mName=soc, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
Temperature static thresholds from HAL:
"""


def test_tegrastats_of_two_generations() -> None:
    nano, orin = parse_tegrastats(NANO), parse_tegrastats(ORIN)
    assert nano.temperature_c == 46.5  # PMIC always reads 100
    assert nano.temperatures["PMIC"] == 100
    assert nano.frequency_mhz == 102
    assert nano.memory_total_mb == pytest.approx(3964 * 1.048576)
    assert nano.memory_available_mb == pytest.approx((3964 - 2145) * 1.048576)
    assert nano.power_w == 4.25 and nano.rails == {"POM_5V_IN": 4.25, "POM_5V_CPU": 1.52}
    assert orin.temperature_c == 53.562 and "cv0" not in orin.temperatures
    assert orin.power_w == 5.0 and orin.rails["VDD_SOC"] == 1.104
    assert orin.frequency_mhz == 1190


def test_android() -> None:
    seen = parse_thermalservice(DUMP)
    assert seen.temperatures == {"AP": 25.6, "SKIN": 31.25}
    assert seen.temperature_c == 31.25
    assert seen.throttle is not None and not seen.throttle.now
    hot = parse_thermalservice(DUMP.replace("mName=SKIN, mStatus=0", "mName=SKIN, mStatus=3"))
    assert hot.throttle is not None and hot.throttle.throttled
    cached = parse_thermalservice("Temperature{mValue=25.6, mType=0, mName=AP, mStatus=0}")
    assert cached.temperature_c == 25.6


@QUICK
@given(bits=st.integers(0, 0xFFFFF))
def test_throttle_flags(bits: int) -> None:
    for line in (f"throttled={hex(bits)}\n", f"{bits:x}\n"):
        found = parse_throttled(line)
        assert found is not None
        flags = (found.under_voltage, found.capped, found.throttled, found.soft_limit)
        assert flags == tuple(bool(bits >> place & 1) for place in range(4))
        assert found.now == any(flags) and len(found.names) == sum(flags)
        assert found.occurred == bool(bits >> 16)


@QUICK
@given(value=st.integers(-600, 2000))
def test_pi_temperature(value: int) -> None:
    assert parse_temperature(f"temp={value / 10}'C\n") == value / 10


@QUICK
@given(text=st.text(max_size=60))
def test_pi_takes_nothing_else(text: str) -> None:
    assert parse_temperature(text + "?") is None
    assert parse_throttled(text + "?") is None


@QUICK
@given(some=st.floats(0, 100), full=st.none() | st.floats(0, 100))
def test_pressure(some: float, full: float | None) -> None:
    content = f"some avg10={some:.2f} avg60=1.00 avg300=0.10 total=12345\n"
    if full is not None:
        content += f"full avg10={full:.2f} avg60=0.00 avg300=0.00 total=0\n"
    found = psi(content)
    assert found is not None
    assert found.some == round(float(f"{some:.2f}"), 2)
    assert found.full == (None if full is None else float(f"{full:.2f}"))


@QUICK
@given(fields=st.dictionaries(st.sampled_from(["MemTotal", "MemFree", "MemAvailable"]), st.integers(0, 1 << 40)))
def test_memory(fields: dict[str, int]) -> None:
    content = "".join(f"{name}:   {value} kB\n" for name, value in fields.items()) + "HugePages_Total:  0\n"
    assert meminfo(content) == {name: value * 1024 / 1e6 for name, value in fields.items()}


@QUICK
@given(
    ram=st.none() | st.tuples(st.integers(0, 64000), st.integers(0, 64000)),
    cores=st.none() | st.lists(st.none() | st.integers(100, 3000), min_size=1, max_size=12),
    heat=st.dictionaries(st.sampled_from(["CPU", "GPU", "tj", "soc0", "PMIC"]), st.integers(-50, 150)),
    rails=st.dictionaries(st.sampled_from(["VDD_IN", "VDD_CPU", "VDD_SOC"]), st.integers(0, 60000)),
    unit=st.sampled_from(["", "mW"]),
)
def test_any_tegrastats_line(
    ram: Any, cores: list[int | None] | None, heat: dict[str, int], rails: dict[str, int], unit: str
) -> None:
    parts = [] if ram is None else [f"RAM {ram[0]}/{ram[1]}MB (lfb 1x4MB) SWAP 0/100MB (cached 0MB)"]
    if cores is not None:
        parts.append(f"CPU [{','.join('off' if one is None else f'7%@{one}' for one in cores)}]")
    parts += [f"{name}@{value}C" for name, value in heat.items()]
    parts += [f"{name} {value}{unit}/{value}{unit}" for name, value in rails.items()]
    seen = parse_tegrastats(" ".join(parts))
    assert seen.temperatures == heat
    assert seen.temperature_c == max((value for name, value in heat.items() if name != "PMIC"), default=None)
    assert seen.rails == {name: value / 1000 for name, value in rails.items()}
    clocks = [one for one in cores or [] if one is not None]
    assert seen.frequency_mhz == min(clocks, default=None)
    assert seen.memory_total_mb == (None if ram is None else ram[1] * 2**20 / 1e6)
    assert (seen.memory_available_mb is not None) == (ram is not None and ram[0] <= ram[1])


@QUICK
@given(sensors=st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True), st.integers(-500, 1500)))
def test_any_thermalservice(sensors: dict[str, int]) -> None:
    blocks = "".join(
        f"\tTemperature{{mValue={value / 10}, mType=0, mName={name}, mStatus=0}}\n" for name, value in sensors.items()
    )
    seen = parse_thermalservice(
        f"Thermal Status: 0\nCurrent temperatures from HAL:\n{blocks}Current cooling devices:\n"
    )
    assert seen.temperatures == {name: value / 10 for name, value in sensors.items()}


@QUICK
@given(text=st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_nothing_breaks_them(text: str) -> None:
    for found in (parse_tegrastats(text), parse_thermalservice(text)):
        assert isinstance(found, Readings)
        assert found.temperature_c is None or math.isfinite(found.temperature_c)
    for wanted in (psi(text), parse_throttled(text), parse_temperature(text), number(text)):
        assert wanted is None or wanted is not False
    assert isinstance(meminfo(text), dict)


@QUICK
@given(cut=st.integers(0, len(DUMP)), flip=st.integers(0, len(DUMP) - 1), char=st.characters())
def test_damaged_dumps(cut: int, flip: int, char: str) -> None:
    damaged = (DUMP[:flip] + char + DUMP[flip + 1 :])[:cut]
    seen = parse_thermalservice(damaged)
    assert all(-60 <= value <= 200 for value in seen.temperatures.values())


@pytest.mark.parametrize(
    ("text", "value"),
    [("48312\n", 48312), ("-5", -5), ("0.25", 0.25), ("", None), (None, None), ("1e5", None), ("nan", None),
     ("٣", None), ("--1", None), ("1.2.3", None), ("-", None), (".", None), ("9" * 400, None)],
)  # fmt: skip
def test_numbers_of_files(text: str | None, value: float | None) -> None:
    assert number(text) == value


def test_the_boards_own_power() -> None:
    assert input_power({"VDD_CPU": 3.0, "VDD_IN": 2.5}) == 2.5
    assert input_power({"VDD_CPU": 3.0, "VDD_SOC": 2.5}) == 3.0
    assert input_power({}) is None
    assert hottest({"PMIC-Die": 100.0}) is None
