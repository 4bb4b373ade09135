"""What is measured and what is estimated: a line for every kind of number that a report shows."""

from __future__ import annotations

from typing import Any

from edgekit.report import figures as f
from edgekit.report.board_rows import UNTIMED, told_basis


def machine(data: dict[str, Any]) -> str:
    """The machine that made the bundle, in words."""
    seen = data["environment"]
    if not seen.get("cpu"):
        return "a machine that the bundle does not name"
    return f.plain_name(str(seen["cpu"])) + (f" ({seen['isa']})" if seen.get("isa") else "")


def basis_rows(data: dict[str, Any]) -> list[dict[str, str]]:
    """Heading -> cell: what, its basis, and where or how."""
    where = machine(data) + (", a virtual machine" if data["environment"].get("virtual") else "")
    n = data["result"].get("n")
    rows = [
        ("accuracy, agreement, parity", "measured", f"{where}; {n or 'the'} examples of the test part"),
        ("change of a stage", "measured", f"{where}; the validation part, the same examples before and after"),
        ("brackets [ ]", "estimated", "95 % intervals: Clopper and Pearson for shares, else a bootstrap"),
        ("size", "measured", "bytes of the files, 1 MB = 1,000,000"),
        ("latency of stages and files", "measured", f"{where}; in turns with what it is compared with"),
    ]
    for board in data["boards"]:
        if board["made"]:
            continue
        rows.append((f"latency: {board['title']}", "measured" if board["timed"] else UNTIMED, told_basis(board)))
        counts = [row["instructions_m"] for row in board["rows"] if row.get("instructions_m") is not None]
        if counts:
            rows.append((f"instructions: {board['title']}", "counted", "in millions an inference, by an emulator"))
    rows += _memory(data, where)
    if not any(row.get("energy_mj") is not None for board in data["boards"] for row in board["rows"]):
        rows.append(("energy", "not measured", "no sensor was read"))
    found = sorted({str(one.get("basis")) for one in data["golden"]["tolerances"] if one.get("basis")})
    if found:
        how = "each row says which; stated ones, of instruction sets that were not at hand, were not measured"
        rows.append(("tolerances of golden vectors", " and ".join(found), how))
    return [{"number": what, "basis": basis, "where or how": how} for what, basis, how in rows]


def _memory(data: dict[str, Any], where: str) -> list[tuple[str, str, str]]:
    rows = []
    for board in data["boards"]:
        if board["rows"]:
            any_read = any(row.get("rss_mb") is not None for row in board["rows"])
            on = where if board["made"] else board["title"]
            how = f"{on}; the whole process with the engine" if any_read else f"{on} does not show it"
            basis = "not measured" if not any_read else "measured" if board["timed"] else "of the emulated process"
            rows.append(("peak memory" if board["made"] else f"memory: {board['title']}", basis, how))
    return rows


def stage_basis(data: dict[str, Any]) -> str:
    """The line under the table of stages."""
    n = data["result"].get("n")
    over = f" over {n} examples of the test part" if n else ""
    threads = {stage["details"].get("latency_threads") for stage in data["stages"]} - {None}
    used = f", {' or '.join(f'{count} thread' + 's' * (count != 1) for count in sorted(threads))}" if threads else ""
    return f"Measured on {machine(data)} when the bundle was made{over}; latency one input at a time{used}."


def budget_basis(row: dict[str, Any], data: dict[str, Any]) -> str:
    """Measured on which machine, or estimated, for one bound."""
    basis = str(row.get("basis") or "not stated")
    if basis != "measured" or str(row.get("bound", "")).startswith("size"):
        return basis
    return f"measured on {machine(data)}"
