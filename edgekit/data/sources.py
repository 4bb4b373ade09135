"""From a source in a recipe to rows: a file, a folder, a `datasets` id, or the built-in set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgekit.data import hub, vader
from edgekit.data.rows import Rows, to_rows
from edgekit.data.tables import FORMATS, Table, missing, read_table
from edgekit.errors import DataError
from edgekit.progress import Progress
from edgekit.recipe import Source

Part = Literal["train", "validation", "test"]
VADER = "vader"


@dataclass
class Brought:
    """What a source holds: one table of rows (``whole``), or parts."""

    name: str
    whole: Rows | None = None
    parts: dict[str, Rows] = field(default_factory=dict)
    licences: list[dict[str, str]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)

    def rows(self, part: Part) -> Rows | None:
        """The rows to use as ``part``; a source without parts is whatever it is named as."""
        return self.whole if self.whole is not None else self.parts.get(part)


def open_source(source: Source, task: str, progress: Progress) -> Brought:
    """Read ``source`` for ``task``. Raises DataError, or MissingDependencyError where something must be fetched."""
    path = Path(source.path).expanduser()
    if source.path == VADER:
        return _vader(task, progress)
    if path.is_dir():
        return _saved(path, source, task) if hub.is_saved(path) else _folder(path, source, task)
    if not path.exists() and hub.is_id(source.path):
        tables, licence = hub.load_id(source.path, source.limit)
        name = source.path.removeprefix("hf:")
        licences = [{"what": "data", "name": name, "licence": licence or "not stated", "source": "Hugging Face hub"}]
        return _parts(tables, source, task, name, licences)
    if not path.exists():
        raise missing(path)
    rows = to_rows(read_table(path, source), task, source)
    return Brought(path.name, rows, licences=[_licence(path.parent, path.name)])


def _vader(task: str, progress: Progress) -> Brought:
    if task == "tag":
        raise DataError("data vader", found="task tag", expected="classify or embed", fix="Give words and tags.")
    train, test = vader.load(progress)
    if task == "embed":
        train.labels = test.labels = None
    return Brought(VADER, parts={"train": train, "test": test}, licences=[dict(vader.LICENCE)])


def _saved(folder: Path, source: Source, task: str) -> Brought:
    tables = hub.load_saved(folder, source.limit)
    return _parts(tables, source, task, folder.name, [_licence(folder, folder.name)])


def _parts(tables: dict[str, Table], source: Source, task: str, name: str, licences: list[dict[str, str]]) -> Brought:
    if len(tables) == 1:
        return Brought(name, to_rows(next(iter(tables.values())), task, source), licences=licences)
    brought = Brought(name, licences=licences)
    for split in [split for split, table in tables.items() if split != "train" and _unlabelled(table)]:
        del tables[split]  # as the test part of a benchmark whose labels are kept secret
        brought.rules.append(f"{name}: split {split} has no labels and is left out")
    files = {part: [split for split in names if split in tables] for part, names in hub.SPLITS.items()}
    _choose(brought, files, lambda split: to_rows(tables[split], task, source))
    if "train" not in brought.parts:
        raise DataError(f"data {name}", found=f"splits {', '.join(tables)}", expected="train among them")
    return brought


def _unlabelled(table: Table) -> bool:
    return any(all(value == -1 for value in table.columns[column]) for column in table.label_names)


def _folder(folder: Path, source: Source, task: str) -> Brought:
    """``train.*``, and ``test.*`` or else ``dev.*``; without a train file, the one data file that is there."""
    data = sorted(item for item in folder.iterdir() if item.is_file() and item.suffix.lower() in FORMATS)
    files = {part: [item for item in data if item.stem.lower() in names] for part, names in hub.SPLITS.items()}
    brought = Brought(folder.name, licences=[_licence(folder, folder.name)])
    if not files["train"]:
        if len(data) == 1:
            brought.whole = to_rows(read_table(data[0], source), task, source)
            return brought
        raise DataError(
            f"data folder {folder}",
            found=", ".join(item.name for item in sorted(folder.iterdir())[:12]) or "an empty folder",
            expected=f"train.csv (or {', '.join(list(FORMATS)[1:])}), and test.* or dev.* where there is one",
            fix="Name the file itself.",
        )
    _choose(brought, files, lambda item: to_rows(read_table(item, source), task, source))
    return brought


def _choose(brought: Brought, files: dict[str, list[Any]], read: Callable[[Any], Rows]) -> None:
    """Read the file of each part. Where there is no test file, the validation file is the test part."""
    for part, found in files.items():
        if len(found) > 1:
            listed = ", ".join(str(getattr(one, "name", one)) for one in found)
            raise DataError(
                f"data {brought.name}", found=f"{listed} for {part}", expected="one", fix="Name the files you mean."
            )
    use = {part: found[0] for part, found in files.items() if found}
    if "test" not in use and "validation" in use:
        use["test"] = use.pop("validation")
        name = getattr(use["test"], "name", use["test"])
        brought.rules.append(f"{brought.name}: no test file, so {name} is the test part; validation is cut from train")
    for part, one in use.items():
        brought.parts[part] = read(one)


def _licence(folder: Path, name: str) -> dict[str, str]:
    """What a data folder says about its licence. Nobody can read it for the user, so it is named."""
    found = sorted(item.name for item in folder.iterdir() if item.name.upper().startswith(("LICENSE", "LICENCE")))
    return {
        "what": "data",
        "name": name,
        "licence": f"see {found[0]} beside the data" if found else "not stated",
        "source": name,
    }
