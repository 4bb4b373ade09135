"""Processors and instruction sets, from real affinity and from made-up /proc and /sys trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.runtimes import isa
from edgekit.runtimes.threads import cgroup_quota, usable_cpus


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_affinity_is_followed() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= usable_cpus() <= len(before)


def test_cgroup_v2_takes_the_tightest_of_the_path(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/a/b\n")
    put(tmp_path, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    assert cgroup_quota(tmp_path) is None
    put(tmp_path, "sys/fs/cgroup/a/cpu.max", "150000 100000\n")
    assert cgroup_quota(tmp_path) == 1.5
    assert usable_cpus(tmp_path) == 1


def test_cgroup_v2_inside_a_container_reads_the_root(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/../../host/path\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert cgroup_quota(tmp_path) == 0.5
    assert usable_cpus(tmp_path) == 1


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_cgroup_v1(tmp_path: Path, mount: str) -> None:
    put(tmp_path, "proc/self/cgroup", "3:memory:/x\n2:cpu,cpuacct:/job\n")
    put(tmp_path, f"sys/fs/cgroup/{mount}/job/cpu.cfs_quota_us", "-1")
    put(tmp_path, f"sys/fs/cgroup/{mount}/job/cpu.cfs_period_us", "100000")
    assert cgroup_quota(tmp_path) is None
    put(tmp_path, f"sys/fs/cgroup/{mount}/job/cpu.cfs_quota_us", "200000")
    assert cgroup_quota(tmp_path) == 2.0


@pytest.mark.parametrize("text", ["", "garbage", "100000", "x 100000", "100000 0"])
def test_unreadable_quotas_are_no_quota(tmp_path: Path, text: str) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", text)
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("machine", "line", "expected"),
    [
        ("x86_64", "flags : fpu avx2 fma", "x86_64-avx2"),
        ("x86_64", "flags : avx2 avx512f avx512bw avx512_vnni", "x86_64-avx512_vnni"),
        ("AMD64", "flags : avx2 avx512f avx512_vnni amx_tile amx_int8", "x86_64-amx_int8"),
        ("aarch64", "Features : fp asimd asimddp", "aarch64-dotprod"),
        ("arm64", "Features : fp asimd asimddp i8mm", "aarch64-i8mm"),
        ("armv7l", "Features : half thumb neon", "armv7l-neon"),
        ("riscv64", "isa : rv64gc", "riscv64-base"),
    ],
)
def test_instruction_set_by_flags(tmp_path: Path, machine: str, line: str, expected: str) -> None:
    put(tmp_path, "proc/cpuinfo", f"processor : 0\n{line}\n")
    assert isa.detect(tmp_path, machine) == expected


def test_this_machine_has_a_name() -> None:
    assert "-" in isa.detect()
    assert isa.machine_name() == f"{isa.cpu_model()}, {isa.detect()}"
