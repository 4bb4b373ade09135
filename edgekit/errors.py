"""Every error that edgekit raises on purpose. A traceback of anything else is a bug of ours."""

from __future__ import annotations


class EdgekitWarning(RuntimeWarning):
    """Something went otherwise than asked for, and the answer is still right: an engine was passed over."""


class FallbackWarning(EdgekitWarning):
    """Other hardware serves than was asked for: the CPU, or a second choice of the GPU's execution providers."""


class EdgekitError(Exception):
    """Base of all deliberate errors.

    The message names the file or field (``what``), what was found, what was expected and what to do (``fix``).
    ``exit_code`` is what the command line returns for it.
    """

    exit_code = 1

    def __init__(self, what: str, *, found: object = None, expected: object = None, fix: str | None = None) -> None:
        self.what, self.found, self.expected, self.fix = what, found, expected, fix
        parts = [what]
        if found is not None:
            parts.append(f"found {found}")
        if expected is not None:
            parts.append(f"expected {expected}")
        text = "; ".join(parts)
        super().__init__(f"{text}. {fix}" if fix else text)


class InputError(EdgekitError):
    """What the user gave cannot be used: a file, a field, a flag."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe, or a flag that overrides it, is wrong."""


class DataError(InputError):
    """A data set cannot be read or used."""


class ModelError(InputError):
    """A model that came in cannot be read or used."""


class MissingDependencyError(InputError):
    """A package, a download or an engine that this step needs is absent; ``fix`` says what to install."""


class BundleError(InputError):
    """A bundle is damaged, incomplete, too new, or reaches outside itself; ``what`` names the file."""


class TrustError(BundleError):
    """A bundle is not signed by a trusted key, was changed after it was signed, or is older than asked for."""

    exit_code = 4


class ProfileError(InputError):
    """A profile, a JSON file or what a phone posted, is not one; ``what`` names the field."""


class TargetError(InputError):
    """A board cannot be reached, or cannot take what is sent to it. It is as it was before."""


class SilenceError(TargetError):
    """A board fell silent in the middle of a step and was given up; ``what`` names the step, ``found`` how long."""


class HostKeyError(TargetError):
    """The machine that answers at an address is not the one that was trusted, or nobody has trusted it yet."""


class EngineError(EdgekitError):
    """An engine could not load or run a model file."""


class StreamError(EdgekitError):
    """A request to a stream has no answer: it was dropped, with its reason in ``found``, or the stream is closed."""


class VerificationError(EdgekitError):
    """A bundle does not give the answers that it promises on this machine."""

    exit_code = 4


class StageError(EdgekitError):
    """A stage of the pipeline could not produce a usable result."""


class NoAnswer(EdgekitError):
    """A guarded model has no answer now. The application decides: its last answer, a safe state, or another try.

    ``retry_after_s``: when the next attempt to serve is due (0: one is under way); ``restart_process``: only a new
    process helps, because too many threads hang in native code.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0, restart_process: bool = False) -> None:
        fix = f"Ask again in {retry_after_s:.1f} s." if retry_after_s else "Ask again."
        super().__init__("no answer", found=reason, fix="Restart the process." if restart_process else fix)
        self.reason, self.retry_after_s, self.restart_process = reason, retry_after_s, restart_process
