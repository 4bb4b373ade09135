"""The two entrances: the three parts of a recipe's data, and one file to evaluate on."""

from __future__ import annotations

from edgekit.data.records import Splits, TextSet, fingerprint
from edgekit.data.rows import Rows, join
from edgekit.data.sets import label_names, oddities, pick, to_set, unique, without
from edgekit.data.sources import Brought, Part, open_source
from edgekit.data.split import cut
from edgekit.data.tables import count
from edgekit.errors import DataError
from edgekit.progress import Progress, Silent
from edgekit.recipe import DataConfig, Source

_SILENT = Silent()


def load_splits(data: DataConfig, task: str, seed: int, progress: Progress = _SILENT) -> Splits:
    """Read, check and split the texts of a recipe for ``task`` (classify, embed or tag).

    Validation and test are what the recipe names, else what a training folder brings, else cut from train: in
    proportion to the labels, by a hash of the text and ``seed``. No text is in two parts. Everything that was decided
    or dropped is in ``Splits.rules``. Raises DataError, or MissingDependencyError where a download is needed.
    """
    brought = [open_source(source, task, progress) for source in data.train]
    licences = [licence for one in brought for licence in one.licences]
    rules = [rule for one in brought for rule in one.rules]
    train = join([_must(one, "train") for one in brought])
    parts: dict[Part, Rows | None] = {}
    wanted: list[tuple[Part, list[Source] | None]] = [("test", data.test), ("validation", data.validation)]
    for part, sources in wanted:
        given = [open_source(source, task, progress) for source in sources or ()]
        licences += [licence for one in given for licence in one.licences]
        rules += [rule for one in given for rule in one.rules]
        found = [_must(one, part) for one in given] or [one.parts[part] for one in brought if part in one.parts]
        parts[part] = _evaluation(found, part, rules) if found else None
    rules += train.rules
    for part in ("test", "validation"):
        rows = parts[part]
        if rows is None:
            fraction = data.test_fraction if part == "test" else data.validation_fraction
            train, parts[part] = _cut(train, part, fraction, data.max_validation, seed, rules)
        else:
            rules += [rule for rule in rows.rules if rule not in rules]
    return _finish(data, task, seed, train, parts, rules, licences, ", ".join(one.name for one in brought))


def load_eval(path: str, task: str, names: list[str], data: DataConfig | None = None) -> TextSet:
    """The texts in ``path`` (file, folder, id or vader) to evaluate a model with labels ``names`` on.

    Of a folder it is the test part. ``data`` tells which columns the recipe named; where this file lacks them, they
    are found as usual. DataError where a label is not one of ``names``.
    """
    source = Source(path=path)
    hints = (data.test or data.train)[0] if data is not None else source
    hinted = hints.model_copy(update={"path": path, "format": "auto", "limit": None})
    try:
        brought = open_source(hinted, task, _SILENT)
    except DataError:
        if hinted == source:
            raise
        brought = open_source(source, task, _SILENT)
    rows = brought.rows("test")
    if rows is None:
        raise DataError(
            f"data {path}", found="a train part only", expected="a test or dev part", fix="Name the file itself."
        )
    return to_set(rows.scored if task == "embed" and rows.scored is not None else rows, task, names, "evaluation")


def _must(brought: Brought, part: Part) -> Rows:
    rows = brought.rows(part)
    if rows is None and part == "validation":
        rows = brought.parts.get("test")  # a folder with one evaluation file calls it test
    if rows is None:
        raise DataError(
            f"data {brought.name}",
            found=f"parts {', '.join(brought.parts)}",
            expected=f"a part for {part}",
            fix="Name the file itself.",
        )
    return rows


def _evaluation(found: list[Rows], part: str, rules: list[str]) -> Rows:
    """For embed, scored pairs alone where any source has them: they measure what plain texts cannot."""
    scored = [rows.scored for rows in found if rows.scored is not None]
    if not scored:
        return join(found)
    if len(scored) < len(found):
        rules.append(f"{part}: files without scored pairs are left out of it")
    return join(scored)


def _strata(rows: Rows) -> list[str]:
    return rows.strata or rows.labels or [""] * len(rows)


def _cut(train: Rows, part: Part, fraction: float, most: int, seed: int, rules: list[str]) -> tuple[Rows, Rows]:
    """Cut ``part`` off train; for embed, off its scored pairs where it has some."""
    rows = train.scored if train.scored is not None else train
    size = max(1, round(fraction * len(rows)))
    if part == "validation":
        size = min(size, most)
    chosen = cut(rows.texts, _strata(rows), size, f"{seed} {part}")
    if not chosen:
        raise DataError(
            "training data",
            found=f"{len(rows)} rows, too few to cut a {part} part from",
            expected="at least two different texts of some class",
            fix=f"Give `{part}:` a file of its own, or more rows.",
        )
    gone = set(chosen)
    rest = pick(rows, (row for row in range(len(rows)) if row not in gone))
    what = "scored pair" if train.scored is not None else "text"
    kept = "in proportion to the strata, " if len(set(_strata(rows))) > 1 else ""
    rules.append(f"{part}: {count(len(chosen), what)} cut from train, {kept}by hash of the text and seed {seed}")
    if train.scored is not None:
        train.scored = rest
        return train, pick(rows, chosen)  # the texts themselves leave train as every leak does
    return rest, pick(rows, chosen)


def _finish(
    data: DataConfig,
    task: str,
    seed: int,
    train: Rows,
    parts: dict[Part, Rows | None],
    rules: list[str],
    licences: list[dict[str, str]],
    name: str,
) -> Splits:
    validation_rows, test_rows = parts["validation"], parts["test"]
    assert validation_rows is not None
    assert test_rows is not None
    # Labels first: a wrong file should be told as such, not as a leak.
    names = label_names(train, task)
    test = to_set(test_rows, task, names, "test")
    train_rules: list[str] = []
    if task == "embed":
        train = unique(train)
        train_rules += train.rules
    slim = without(validation_rows, [test], "validation", "test")
    rules += slim.rules if slim is not validation_rows else []
    validation = to_set(slim, task, names, "validation")
    for other, held in (("test", test), ("validation", validation)):
        fewer = without(train, [held], "train", other)
        train_rules += fewer.rules if fewer is not train else []
        train = fewer
    if label_names(train, task) != names:
        raise DataError(
            "training data",
            found="a class all of whose texts are in test or validation too",
            expected="texts of its own for each class",
            fix="Give different files for the parts.",
        )
    rules += train_rules
    if data.max_examples is not None and len(train) > data.max_examples:
        before = len(train)
        gone = set(cut(train.texts, _strata(train), before - data.max_examples, f"{seed} part", together=False))
        train = pick(train, (row for row in range(before) if row not in gone))
        rules.append(
            f"train: a part of {len(train):,} of {before:,} texts, in proportion, by hash of the text and seed {seed}"
        )
    result = to_set(train, task, names, "train")
    rules += oddities(result, [validation, test])
    unique_licences = [licence for row, licence in enumerate(licences) if licence not in licences[:row]]
    digest = fingerprint([result, validation, test], names)
    return Splits(result, validation, test, names, list(dict.fromkeys(rules)), digest, unique_licences, name)
