"""Where a target is: ``local``, or ``ssh://[user@]host[:port]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.errors import InputError

_USER = r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?"
_HOST = r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*))"
_SSH = re.compile(rf"ssh://{_USER}{_HOST}(?::(?P<port>[0-9]{{1,5}}))?/?")
EXPECTED = "local or ssh://user@host[:port]"


@dataclass(frozen=True)
class Address:
    """``user`` "" and ``port`` None leave the choice to ssh's own configuration. No field begins with a dash."""

    host: str
    user: str = ""
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user + '@' if self.user else ''}{host}{'' if self.port is None else f':{self.port}'}"

    @property
    def arguments(self) -> list[str]:
        """As ssh takes it."""
        port = [] if self.port is None else ["-p", str(self.port)]
        return [*port, f"{self.user}@{self.host}" if self.user else self.host]


def parse(text: str) -> Address | None:
    """The address in ``text``; None for ``local``. Raises ``InputError`` for anything else."""
    if text == "local":
        return None
    match = _SSH.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= 65535):
        raise InputError(f"target {text[:100]!r}", expected=EXPECTED, fix="Passwords are not taken: ssh has keys.")
    return Address(match["host"] or match["six"], match["user"] or "", port)
