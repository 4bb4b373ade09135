"""A bundle to a board: the runtime it needs, the files that changed, the proof there, and the switch in one step."""

from __future__ import annotations

import contextlib
import glob
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit import errors
from edgekit.bundle import Bundle, open_bundle
from edgekit.devices.targets import agent
from edgekit.devices.targets.board import FOLDER, Facts, last_answer, look
from edgekit.devices.targets.process import QUIET, Step
from edgekit.devices.targets.runtime import Runtime, engines_of, install
from edgekit.devices.targets.target import Target
from edgekit.devices.targets.transfer import compare, need, send
from edgekit.errors import EdgekitError, InputError, SilenceError, TargetError
from edgekit.progress import Progress, Silent

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Deployed:
    """What a deployment did. ``slots``: the folder there for :class:`edgekit.runtimes.Slots`; ``python``: its runtime.

    ``state``: of the slots; ``changed``: whether the bundle is another one than before; ``sent_bytes`` went over the
    connection. ``ok`` is False, and the board as it was, where a check of ``checks`` failed there.
    """

    target: str
    bundle: str
    facts: dict[str, Any]
    slots: str
    python: str
    engines: list[str]
    ok: bool
    changed: bool
    state: dict[str, Any] | None
    checks: list[dict[str, Any]]
    sent_bytes: int
    sent_files: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Staged:
    """A bundle that lies on the board beside all that runs there, and the runtime for it."""

    facts: Facts
    runtime: Runtime
    bundle: str
    slots: str
    link: str
    sent_bytes: int
    sent_files: int


def deploy(
    path: str | Path,
    target: Target,
    folder: str = FOLDER,
    engines: Sequence[str] = (),
    trusted_keys: Sequence[str | Path] = (),
    minimum_release: int | None = None,
    confirm: bool = False,
    wheels: Path | None = None,
    progress: Progress = Silent(),
) -> Deployed:
    """Make the bundle at ``path`` the current one on ``target``, in the slots of its name below ``folder``.

    ``engines``: those to install, all of the bundle's that have wheels unless given. ``confirm``: what runs there and
    the new bundle count as seen to work, where no application confirms them (docs/recovery.md). ``wheels``: a folder of
    wheels for the board; without it pip fetches them here. Wherever it is interrupted, the board runs what it ran.
    Raises ``TargetError``, ``InputError``, ``BundleError``, ``MissingDependencyError``.
    """
    keys = [_key(one) for one in trusted_keys]
    bundle = open_bundle(path, trusted_keys=[key.encode() for key in keys] or None, minimum_release=minimum_release)
    staged = stage(bundle, target, folder, engines, bool(keys), wheels, progress)
    answer = command(
        target,
        staged.runtime,
        {
            "do": "install",
            "bundle": staged.bundle,
            "slots": staged.slots,
            "link": staged.link,
            "runtime": staged.runtime.folder,
            "keys": keys,
            "minimum_release": minimum_release,
            "confirm": confirm,
        },
        progress,
    )
    return Deployed(
        target=target.name,
        bundle=str(path),
        facts=staged.facts.to_dict(),
        slots=staged.slots,
        python=f"{staged.link}/bin/python",
        engines=staged.runtime.engines,
        ok=answer["verified"]["ok"],
        changed=answer["changed"],
        state=answer["state"],
        checks=answer["verified"]["checks"],
        sent_bytes=staged.sent_bytes,
        sent_files=staged.sent_files,
    )


def stage(
    bundle: Bundle,
    target: Target,
    folder: str = FOLDER,
    engines: Sequence[str] = (),
    signed: bool = False,
    wheels: Path | None = None,
    progress: Progress = Silent(),
) -> Staged:
    """Put ``bundle`` and a runtime for it on ``target``; nothing that runs there is touched."""
    wanted = engines_of(bundle, engines)
    progress.say(f"{target.name}: connecting")
    facts = look(target, folder)
    name = bundle.manifest.name
    if _PLAIN.fullmatch(name) is None:  # it becomes the name of folders there
        raise InputError(f"{bundle.root.name}: name", found=repr(name)[:60], expected="letters, digits, . _ and -")
    apps, incoming = f"{facts.root}/apps", f"{facts.root}/incoming/{name}.edge"
    files = {one.relative_to(bundle.root).as_posix(): one for one in bundle.root.rglob("*") if one.is_file()}
    plan = compare(target, incoming, files, [f"{glob.escape(apps)}/{name}/[0-9]*.edge"])
    need(target, f"{bundle.root.name}", plan.bytes + plan.total, plan.free)  # as sent, and again in its slot
    pictures = bundle.manifest.task.task == "clip"
    runtime = install(target, facts, wanted, pictures, signed, wheels, progress)
    send(target, plan, f"{bundle.root.name} to {target.name}", progress)
    progress.say(f"{target.name}: {len(plan.missing)} of {len(files)} files of {bundle.root.name} sent")
    sent = plan.bytes + runtime.sent_bytes
    return Staged(facts, runtime, incoming, f"{apps}/{name}", f"{apps}/{name}.runtime", sent, len(plan.missing))


def command(
    target: Target, runtime: Runtime, job: dict[str, Any], progress: Progress, extra_s: float = 0.0
) -> dict[str, Any]:
    """What :mod:`edgekit.devices.targets.agent` answers to ``job`` in ``runtime`` on ``target``. Raises its errors.

    ``extra_s``: how much longer than otherwise it may be silent.
    """
    handle: list[int] = []
    group, doing = 0, job["do"]
    step = Step(doing, QUIET, extra_s)

    def heard(line: str) -> None:
        nonlocal group, doing
        told = json.loads(line) if line.startswith("{") else {}
        if "group" in told:
            group = int(told["group"])
        elif "say" in told:
            doing = step.name = told["say"]
            progress.say(f"{target.name}: {told['say']}")
        elif "at" in told:
            step.name = f"{doing}: {told['at']}"
        elif "start" in told:
            doing = step.name = told["start"]
            handle.append(progress.start(f"{told['start']} on {target.name}", told["total"]))
        elif "advance" in told and handle:
            step.name = f"{doing}, after {told['note']}" if told["note"] else doing
            progress.advance(handle[-1], told["advance"], told["note"])
        elif "finish" in told and handle:
            progress.finish(handle.pop())

    line = f"{shlex.quote(runtime.python)} -m {agent.MODULE}"
    try:
        done = target.run(line, [json.dumps(job).encode()], heard, step)
    except SilenceError:
        if group > 1:  # what hangs there would keep its memory
            with contextlib.suppress(TargetError):
                target.run(f"kill -9 -{group}", step=Step("ending what hangs"))
        raise
    finally:
        for one in handle:
            progress.finish(one)
    answer = last_answer(target, done.out, done.err, done.code)
    if "error" in answer:
        kind = getattr(errors, answer["error"], TargetError)
        assert issubclass(kind, EdgekitError)
        what = f"{target.name}: {answer['what']}"
        raise kind(what, found=answer["found"], expected=answer["expected"], fix=answer["fix"])
    return answer


def _key(path: str | Path) -> str:
    try:
        return Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--key {path}", found=str(error), expected="a public key, FILE.pub") from None
