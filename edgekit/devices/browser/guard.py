"""Who may talk to the page: machines of the local network, under a name of ours, with the one-time token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import threading

from edgekit.errors import InputError

_BYTES = 18  # of randomness: 24 characters in the address
_PROBE = ("192.0.2.1", 9)  # an address that is nobody's (RFC 5737): only the way there is asked for, nothing is sent


def is_local(address: str) -> bool:
    """Whether ``address`` is of this machine or of a private network (RFC 1918, RFC 4193, link-local)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return (
        found.is_loopback
        or found.is_link_local
        or any(found in one for one in _PRIVATE if one.version == found.version)
    )


_PRIVATE = [
    ipaddress.ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]


def own_address() -> str:
    """This machine's address on the local network; 127.0.0.1 where it has none.

    Raises ``InputError`` for a machine whose address is a public one.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_PROBE)
            found: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
    if not is_local(found):
        raise InputError(
            "this machine's address", found=found, expected="one of a private network", fix="Name one with --host."
        )
    return found


class Gate:
    """One token, good for one session. Safe in several threads."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(_BYTES)
        self._lock = threading.Lock()
        self._session = ""

    def open(self, token: str) -> str | None:
        """A session for the right token, the first time; else None."""
        with self._lock:
            right = hmac.compare_digest(token.encode(), self.token.encode())
            if not right or self._session:
                return None
            self._session = secrets.token_urlsafe(_BYTES)
            return self._session

    @property
    def used(self) -> bool:
        """Whether somebody came with the token."""
        return bool(self._session)

    def knows(self, session: str) -> bool:
        """Whether ``session`` is the one that was opened."""
        own = self._session
        return bool(own) and hmac.compare_digest(session.encode(), own.encode())
