"""The application, and what becomes of every error."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from edgekit._version import __version__
from edgekit.cli import (
    compress,
    deploy,
    devices,
    doctor,
    evaluate,
    index,
    phone,
    prepare,
    profile,
    reinforce,
    report,
    run_model,
    sign,
    slots,
    verify,
)
from edgekit.errors import EdgekitError, EdgekitWarning

INTERRUPTED = 130

app = typer.Typer(
    name="edgekit",
    help="Take a BERT or a CLIP from a workstation to a bundle that runs on a board without torch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 unexpected failure, 2 bad input or usage, 3 budget missed, 4 verification failed. "
    "--debug, anywhere, or EDGEKIT_DEBUG=1 shows the traceback of a failure.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compress")(compress.command)
app.command("eval")(evaluate.command)
app.command("profile")(profile.command)
app.command("phone")(phone.command)
app.command("prepare")(prepare.command)
app.command("run")(run_model.command)
app.command("index")(index.command)
app.command("reinforce")(reinforce.command)
app.command("verify")(verify.command)
app.command("keygen")(sign.keygen)
app.command("sign")(sign.command)
app.command("report")(report.command)
app.command("slots")(slots.command)
app.command("deploy")(deploy.command)
app.command("devices")(devices.command)
app.command("doctor")(doctor.command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors that we raise on purpose are one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    given, debug = _take_debug(given)
    try:
        with _plain_warnings():
            code = app(args=given, prog_name="edgekit", standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except EdgekitError as error:
        _show(error, debug)
        return error.exit_code
    except (typer.Abort, EOFError):
        code = INTERRUPTED
    except ModuleNotFoundError as error:
        top = (error.name or "").partition(".")[0]
        if top in ("", "edgekit"):
            return _unexpected(error, debug)
        _show(error, debug, f"this command needs the package {top}, which is not installed. {_pip_line()}")
        return 2
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            return _unexpected(error, debug)
        return _usage(message(), getattr(error, "ctx", None))
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Our own warnings are one line on stderr, as errors are; those of other libraries stay as they are."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *given: Any, **named: Any) -> None:
            if issubclass(category, EdgekitWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                others(message, category, *given, **named)

        warnings.showwarning = show
        yield


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take --debug out of ``arguments``, wherever it stands before a bare ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [one for one in arguments[:end] if one != "--debug"]
    wanted = len(head) < end or os.environ.get("EDGEKIT_DEBUG", "") not in ("", "0")
    return head + arguments[end:], wanted


def _show(error: BaseException, debug: bool, text: str | None = None) -> None:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    line = " ".join((text or str(error)).split())
    print(f"error: {line}", file=sys.stderr)


def _unexpected(error: Exception, debug: bool) -> int:
    advice = "" if debug else " Run again with --debug for the traceback; it is a bug worth reporting."
    _show(error, debug, f"unexpected {type(error).__name__}: {error}.{advice}")
    return 1


def _usage(message: str, context: object) -> int:
    if message.startswith("Usage:"):  # no arguments at all: the help, not a complaint
        print(message, file=sys.stderr)
        return 2
    command = getattr(context, "command_path", "edgekit")
    print(f"error: {' '.join(message.split())} See `{command} --help`.", file=sys.stderr)
    return 2


def _pip_line() -> str:
    return "pip install 'edgekit[compress]'"
