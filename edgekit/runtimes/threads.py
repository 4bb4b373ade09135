"""How many processors this process may really use: CPU affinity and the cgroup's quota."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgekit.errors import InputError


def usable_cpus(root: Path = Path("/")) -> int:
    """Processors in the affinity mask, no more than the cgroup v1 or v2 quota allows (rounded down), at least 1.

    A quota of 1.5 processors gives 1: a second thread would be throttled for most of each period. ``root`` is where
    ``/proc`` and ``/sys`` are looked for.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cpus = os.cpu_count() or 1
    quota = cgroup_quota(root)
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def thread_count(asked: int | None) -> int:
    """``asked``, or :func:`usable_cpus` for None. Raises ``InputError`` for anything but 1 to 1024."""
    if asked is None:
        return usable_cpus()
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= 1024:
        raise InputError("threads", found=repr(asked), expected="a number from 1 to 1024, or None")
    return asked


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The tightest CPU quota, in processors, of this process's cgroup and the groups above it; None without one."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            quotas += _walk(root / "sys/fs/cgroup", path, _v2_quota)
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", controllers, "cpu,cpuacct"):
                quotas += _walk(root / "sys/fs/cgroup" / mount, path, _v1_quota)
    return min(quotas, default=None)


def _walk(mount: Path, path: str, read: Callable[[Path], float | None]) -> list[float]:
    """Quotas of the group and of every group above it; inside a container the path may not exist, its root does."""
    parts = [p for p in path.split("/") if p and p != ".."]
    folders = [mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]
    return [quota for quota in map(read, folders) if quota is not None]


def _v2_quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _v1_quota(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return None if quota <= 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None
