"""``edgekit run``: one inference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import BundleArgument, DeviceOption, Format, FormatOption, names
from edgekit.cli.output import Column, emit
from edgekit.errors import InputError

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel

STDIN = "-"


def command(
    bundle: BundleArgument,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; - reads stdin, a text a line.")
    ] = None,
    image: Annotated[list[Path] | None, typer.Option("--image", help="A picture (clip); may be given again.")] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="What pictures may show, a comma list. Default: the bundle's own.")
    ] = None,
    templates: Annotated[
        list[str] | None, typer.Option("--templates", help="Text with {} for the label; may be given again.")
    ] = None,
    index: Annotated[Path | None, typer.Option("--index", help="Search this index for texts and pictures.")] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Labels a text or picture (1, 5), entries a search (10).")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all that may be used.")] = None,
    engine: Annotated[str, typer.Option("--engine", help="Default: the fastest here.")] = "auto",
    device: DeviceOption = "auto",
    form: FormatOption = Format.table,
) -> int:
    """Answer texts with labels, embeddings or tags; pictures with labels; both with the nearest entries of an index."""
    from edgekit.cli.answers import rows as answers
    from edgekit.runtimes.load import load
    from edgekit.runtimes.model import Model

    pictures = [Path(one) for one in image or []]
    given = [] if pictures and not texts else _texts(texts or [])
    model: Model | DualModel
    if image or labels is not None or templates or index is not None:
        model, rows, columns = _dual(
            bundle, given, pictures, names(labels), templates, index, top_k, threads, engine, device
        )
    else:
        found = load(bundle, threads=threads, engine=engine, device=device)
        if isinstance(found, Model):
            model, rows, columns = found, answers(found, given, top_k or 1), _columns(found.spec.task)
        else:
            from edgekit.cli.run_dual import embeddings

            model, rows, columns = found, embeddings(found, given, []), _columns("embed")
    payload = {"bundle": str(bundle), "task": model.spec.task, "file": model.file, "engine": model.engine, "rows": rows}
    flat = [{**row, **part} for row in rows for part in row.get("top") or row.get("tags") or [row]]
    emit(form, payload, flat, columns)
    return 0


def _dual(
    bundle: Path,
    texts: list[str],
    pictures: list[Path],
    labels: list[str] | None,
    templates: list[str] | None,
    index: Path | None,
    top_k: int | None,
    threads: int | None,
    engine: str,
    device: str,
) -> tuple[DualModel, list[dict[str, Any]], list[Column]]:
    """The model, its rows and their columns, for what only a dual encoder answers."""
    from edgekit.cli import run_dual
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.index import Index
    from edgekit.runtimes.load import load

    entries = None if index is None else Index.load(index)
    file = run_dual.file_of(bundle, entries) if entries is not None and engine == "auto" else None
    model = load(bundle, threads=threads, engine=engine, file=file, device=device)
    if not isinstance(model, DualModel):
        raise InputError(
            "--image, --labels, --templates, --index", found=f"a model for {model.spec.task}", expected="clip"
        )
    if entries is not None:
        if labels or templates:
            raise InputError("--index", found="--labels or --templates too", expected="texts or --image to search for")
        return model, run_dual.search(model, entries, texts, pictures, top_k or 10), run_dual.SEARCH
    if texts or not pictures:
        raise InputError("--labels and --templates", found="texts", expected="--image", fix="Texts alone are embedded.")
    if labels is None and model.bank is None:
        if templates:
            raise InputError("--templates", found="no --labels", expected="what pictures may show")
        return model, run_dual.embeddings(model, [], pictures), _columns("embed", "image")
    rows = run_dual.zero_shot(model, pictures, labels, templates, top_k or 5)
    return model, rows, run_dual.ZERO_SHOT


def _columns(task: str, of: str = "text") -> list[Column]:
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
    return [Column("embedding", "embedding", _vector, right=False), Column(of, of, _short, right=False)]


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
