"""Installing a bundle beside the one that runs, switching in one step, and going back when it does not work."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bundle import open_bundle
from edgekit.errors import (
    BundleError,
    EdgekitError,
    EdgekitWarning,
    EngineError,
    InputError,
    MissingDependencyError,
    VerificationError,
)
from edgekit.runtimes.load import load
from edgekit.runtimes.slots.files import Files, copy_tree, put, remove
from edgekit.runtimes.slots.state import NAME, State, is_leftover, is_slot, read
from edgekit.runtimes.verify import verify

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

_LOCK = ".lock"
# What a bundle may be to blame for; any other error is about what the caller asked.
_BLAMED = (BundleError, EngineError, MissingDependencyError, VerificationError)


class Slots:
    """The bundles in ``folder``: the current one, and the one to go back to. docs/recovery.md.

    ``boots``: how often a bundle that nobody confirmed is loaded before the older one is taken again. ``trusted_keys``:
    as in :func:`edgekit.load`, for all that is installed and loaded. ``files``: what changes the disk. One process at
    a time changes a folder; others wait.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        boots: int = 3,
        trusted_keys: Sequence[Any] | None = None,
        files: Files | None = None,
    ) -> None:
        if boots < 1:
            raise InputError("boots", found=boots, expected="1 or more")
        self.folder = Path(folder).absolute()
        self._boots = boots
        self._trust: dict[str, Any] = {} if trusted_keys is None else {"trusted_keys": trusted_keys}
        self._files = Files() if files is None else files

    def install(self, bundle: str | os.PathLike[str]) -> Path:
        """Copy ``bundle`` beside the current one, prove the copy on this machine, and make it the current one.

        It runs from the next :meth:`load` on, and stays if :meth:`confirm` follows. Whatever stops this, the power too,
        leaves the old bundle or the new one as the current, whole. Raises ``BundleError`` for a bundle that is damaged,
        ``VerificationError`` for one that gives other answers here, ``InputError`` when the current one is not
        confirmed yet, and when the disk does not take it.
        """
        source = Path(bundle)
        opened = open_bundle(source, **self._trust)
        try:
            self._make_folder()
            with self._locked():
                state = self._state()
                if state is not None and not state.confirmed and state.fallback:
                    raise InputError(
                        f"{self.folder}: {state.current}",
                        found="installed, not confirmed",
                        expected="confirm() or rollback() before the next one",
                        fix="What works now must stay until something newer was seen to work.",
                    )
                # All that lies there, since what may is checked: the manifest lists neither itself nor its signature.
                names = [one.relative_to(source).as_posix() for one in source.rglob("*") if one.is_file()]
                slot = self._copy(source, names, state)
                old = "" if state is None else state.current
                self._write(State(slot.name, old, note=f"installed {opened.manifest.name}"[:200]))
        except OSError as error:
            raise InputError(
                f"{source} cannot be installed in {self.folder}", found=error.strerror or str(error), fix="Free space."
            ) from None
        return slot

    def _copy(self, source: Path, names: list[str], state: State | None) -> Path:
        """A slot that was proven and that nothing refers to yet."""
        files, folder = self._files, self.folder
        if state is not None and state.fallback:
            self._write(replace(state, fallback="", note="made room"))  # first: what is removed must not be named
        self._sweep({state.current} if state is not None else set())
        taken = [int(one.name[:6]) for one in folder.iterdir() if is_slot(one.name)]
        slot = folder / f"{max(taken, default=0) + 1:06}.edge"
        temporary = folder / f".{slot.name}.tmp"
        try:
            copy_tree(files, source, temporary, names)
            self._prove(temporary)
            files.rename(temporary, slot)
            files.sync_folder(folder)
        except (OSError, EdgekitError):
            with contextlib.suppress(OSError):
                remove(files, temporary)
            raise
        return slot

    def load(self, **options: Any) -> Model | DualModel:
        """The current bundle's model, as :func:`edgekit.load` gives it with ``options``; call it once a boot.

        A bundle that is not confirmed is proven with all its golden vectors first. If it fails, or was loaded ``boots``
        times without :meth:`confirm`, or cannot be loaded, the older one takes its place, with an ``EdgekitWarning``.
        Raises ``InputError`` where nothing is installed, and the error of the last bundle when there is no other.
        """
        with self._locked():
            state = self._known()
            while True:
                if not state.confirmed:
                    if state.boots >= self._boots and state.fallback:
                        state = self._back(state, f"not confirmed in {state.boots} boots")
                        continue
                    state = self._try_write(replace(state, boots=state.boots + 1))
                try:
                    if not state.confirmed:
                        self._prove(self.folder / state.current)
                    return load(self.folder / state.current, **self._trust, **options)
                except _BLAMED as error:
                    if not state.fallback:
                        raise
                    state = self._back(state, str(error))

    def confirm(self) -> None:
        """The current bundle works: keep it. Call it once the application has seen that it does."""
        with self._locked():
            state = self._known()
            if not state.confirmed:
                self._must_write(replace(state, confirmed=True, boots=0, note="confirmed"))

    def rollback(self, reason: str = "asked for") -> Path:
        """Make the older bundle the current one. Raises ``InputError`` where there is none."""
        with self._locked():
            state = self._known()
            if not state.fallback:
                raise InputError(str(self.folder), found=f"{state.current} alone", expected="an older bundle")
            back = State(state.fallback, confirmed=True, note=f"back from {state.current}: {reason}"[:500])
            self._must_write(back)
            return self.folder / back.current

    def current(self) -> Path:
        """The bundle to run. Raises ``InputError`` where nothing is installed."""
        return self.folder / self._known().current

    def fallback(self) -> Path | None:
        """The bundle to go back to, for ``Guarded(..., last_good=...)``; None where there is none."""
        state = self._state()
        return self.folder / state.fallback if state is not None and state.fallback else None

    def status(self) -> State | None:
        """What :meth:`load` would start from; None where nothing is installed."""
        return self._state()

    def _prove(self, bundle: Path) -> None:
        report = verify(bundle, **self._trust)
        if not report.ok:
            bad = [f"{check.name}: {check.detail}" for check in report.checks if not check.ok]
            raise VerificationError(f"the self-test of {bundle.name}", found="; ".join(bad)[:500])

    def _back(self, state: State, reason: str) -> State:
        warnings.warn(
            f"{self.folder}: back from {state.current} to {state.fallback}: {reason}", EdgekitWarning, stacklevel=4
        )
        note = f"back from {state.current}: {reason}"[:500]
        return self._try_write(State(state.fallback, confirmed=True, note=note))

    def _known(self) -> State:
        state = self._state()
        if state is None:
            raise InputError(str(self.folder), found="no bundle", expected="one, by install()")
        return state

    def _state(self) -> State | None:
        """The state on disk; where that was damaged, what the slots themselves tell."""
        try:
            return read(self.folder / NAME)
        except BundleError as error:
            found = [one.name for one in self._slots() if self._opens(one)]
            if not found:
                raise
            warnings.warn(f"{self.folder}: {error}; {found[0]} is taken", EdgekitWarning, stacklevel=4)
            return State(found[0], found[1] if len(found) > 1 else "", note="the state was damaged")

    def _slots(self) -> list[Path]:
        """Newest first."""
        return sorted((one for one in self.folder.iterdir() if is_slot(one.name)), reverse=True)

    def _opens(self, slot: Path) -> bool:
        try:
            open_bundle(slot, **self._trust)
        except EdgekitError:
            return False
        return True

    def _sweep(self, kept: set[str]) -> None:
        """Remove what nothing refers to: older bundles, and what an interrupted installation left."""
        for one in sorted(self.folder.iterdir()):
            if one.name not in kept and (is_slot(one.name) or is_leftover(one.name)):
                remove(self._files, one)

    def _write(self, state: State) -> None:
        put(self._files, self.folder / NAME, state.to_bytes())

    def _must_write(self, state: State) -> None:
        try:
            self._write(state)
        except OSError as error:
            raise InputError(
                f"{self.folder / NAME} cannot be written", found=error.strerror, fix="Free space."
            ) from None

    def _try_write(self, state: State) -> State:
        """``state``, written if the disk takes it: a full one must not keep a bundle from running."""
        try:
            self._write(state)
        except OSError as error:
            warnings.warn(f"{self.folder / NAME} cannot be written ({error.strerror})", EdgekitWarning, stacklevel=4)
        return state

    def _make_folder(self) -> None:
        missing = [one for one in (self.folder, *self.folder.parents) if not one.exists()]
        for one in reversed(missing):
            self._files.mkdir(one)
            self._files.sync_folder(one.parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone in the folder. One that cannot be written to is only read, which needs no lock."""
        try:
            import fcntl

            descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (OSError, ImportError):  # read-only or full; Windows
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
