"""What waits for the model, and who has to go. Knows no thread: the stream calls it under its lock."""

from __future__ import annotations

from collections import deque

from edgekit.errors import InputError
from edgekit.runtimes.realtime.records import OVERFLOW, REFUSED, SUPERSEDED, Request

POLICIES = ("latest", "queue", "all")
FULL = ("refuse", "oldest")
LONGEST = 65536


class Intake:
    """The waiting requests, oldest first.

    ``latest``: one, the newest. ``queue``: ``size`` at most; when it is full, ``full`` says whether the new one
    is refused or the oldest dropped. ``all``: ``size`` at most, and who brings one more has to wait.
    """

    def __init__(self, policy: str = "latest", size: int = 16, full: str = "refuse") -> None:
        if policy not in POLICIES:
            raise InputError("policy", found=repr(policy), expected=", ".join(POLICIES))
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LONGEST:
            raise InputError("queue_size", found=repr(size), expected=f"1 to {LONGEST}")
        if full not in FULL:
            raise InputError("full", found=repr(full), expected=", ".join(FULL))
        self.policy, self.full = policy, full
        self.size = 1 if policy == "latest" else size
        self.waiting: deque[Request] = deque()

    @property
    def has_space(self) -> bool:
        """Whether one more can be offered; with policy all that may be False."""
        return self.policy != "all" or len(self.waiting) < self.size

    def offer(self, request: Request) -> tuple[Request, str] | None:
        """Take ``request``; gives the one that has to go for it, perhaps itself, and why."""
        waiting = self.waiting
        if len(waiting) < self.size:
            waiting.append(request)
            return None
        if self.policy == "queue" and self.full == "refuse":
            return request, REFUSED
        waiting.append(request)
        return waiting.popleft(), SUPERSEDED if self.policy == "latest" else OVERFLOW
