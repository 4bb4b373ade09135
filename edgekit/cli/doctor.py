"""``edgekit doctor``: what is installed, what is missing, what is known to break here."""

from __future__ import annotations

from edgekit.cli.options import Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.errors import VerificationError

COLUMNS = [
    Column("state", "", right=False),
    Column("name", "what", right=False),
    Column("detail", "found", right=False),
    Column("fix", "to do", right=False),
]


def command(form: FormatOption = Format.table) -> int:
    """Look at this installation. Exit code 4 when something here is known to break; a missing extra is no fault."""
    from edgekit.devices.doctor import examine

    found = examine()
    rows = [
        {"state": "ok" if check.ok else "BROKEN", "name": check.name, "detail": check.detail, "fix": check.fix}
        for check in found.findings
    ]
    for package in found.packages:
        here = package.version is not None
        rows.append(
            {
                "state": "ok" if here else "missing",
                "name": package.name,
                "detail": f"{package.version if here else 'not installed'} ({package.extra})",
                "fix": "" if here else package.fix,
            }
        )
    emit(form, found.to_dict(), rows, COLUMNS)
    return 0 if found.ok else VerificationError.exit_code
