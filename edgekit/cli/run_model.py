"""``edgekit run``: one inference."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.errors import InputError

STDIN = "-"


def command(
    bundle: BundleArgument,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; - reads stdin, a text a line.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Labels a text (classify).")] = 1,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all that may be used.")] = None,
    engine: Annotated[str, typer.Option("--engine", help="Default: the fastest here.")] = "auto",
    form: FormatOption = Format.table,
) -> int:
    """Answer texts with labels, embeddings or tags."""
    from edgekit.cli.answers import rows as answers
    from edgekit.runtimes.load import load

    given = _texts(texts or [])
    model = load(bundle, threads=threads, engine=engine)
    rows = answers(model, given, top_k)
    payload = {"bundle": str(bundle), "task": model.spec.task, "file": model.file, "engine": model.engine, "rows": rows}
    flat = [{**row, **part} for row in rows for part in row.get("top") or row.get("tags") or [row]]
    emit(form, payload, flat, _columns(model.spec.task))
    return 0


def _columns(task: str) -> list[Column]:
    if task == "classify":
        return [
            Column("label", "label", right=False),
            Column("score", "score", "{:.4f}".format),
            Column("text", "text", _short, right=False),
        ]
    if task == "tag":
        return [
            Column("word", "word", right=False),
            Column("label", "label", right=False),
            Column("score", "score", "{:.4f}".format),
            Column("start", "start"),
            Column("end", "end"),
        ]
    return [Column("embedding", "embedding", _vector, right=False), Column("text", "text", _short, right=False)]


def _texts(given: list[str]) -> list[str]:
    if not given and sys.stdin.isatty():
        raise InputError("no text", fix='Give one: edgekit run BUNDLE "a charming film"; or - to read stdin.')
    found: list[str] = []
    for one in given or [STDIN]:
        found += _stdin() if one == STDIN else [one]
    return found


def _stdin() -> list[str]:
    lines = sys.stdin.buffer.read().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(line.decode("utf-8").removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise InputError(
                f"stdin line {number}", found=f"byte {error.start} that is not UTF-8", expected="UTF-8 text"
            ) from None
    return found


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 80 else plain[:77] + "..."


def _vector(values: list[float]) -> str:
    shown = ", ".join(f"{value:.4f}" for value in values[:6])
    return f"[{shown}{', ...' if len(values) > 6 else ''}] ({len(values)})"
