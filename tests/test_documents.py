"""The README's commands and the examples run; the documents' links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from edgekit.cli.main import run
from tests import clip_bundles

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[Any]:
    """Lines of the README that call edgekit. Those that take seconds are slow; tests/cli has a quick one of each."""
    found = re.findall(r"^\$ (edgekit .+)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    slow = ("compress", "doctor")
    return [pytest.param(line, marks=[pytest.mark.slow] if line.split()[1] in slow else []) for line in found]


@pytest.fixture(scope="module")
def workplace(small_bundle: Path, clip_bundle: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has what the README speaks of: a bundle, a model, a table of reviews."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(small_bundle, folder / "build/sentiment.edge")
    (folder / "my-bert").symlink_to(minilm)
    shutil.copytree(clip_bundle, folder / "photo.edge")
    (folder / "photos").mkdir()
    for number, picture in enumerate(clip_bundles.pictures()):
        Image.fromarray(picture).save(folder / "photos" / f"{number}.jpg")
    shutil.copyfile(folder / "photos/0.jpg", folder / "cat.jpg")
    rows = [f"film number {i} was {word},{word}" for i in range(40) for word in ("good", "bad")]
    (folder / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_readme(workplace: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("EDGEKIT_CACHE", str(workplace / "cache"))
    arguments = shlex.split(command)[1:]
    if arguments[0] == "compress" and "--dry-run" not in arguments:
        arguments.append("--dry-run")  # the run itself takes minutes; tests/compress runs one
    if arguments[0] == "profile":
        arguments += ["--runs", "5", "--warmup", "1", "--seconds", "0"]
    assert run(arguments) == 0


def example(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classify_example(small_bundle: Path) -> None:
    lines = example("classify.py", str(small_bundle), "a charming film", "no").splitlines()
    assert [line.split("\t")[2] for line in lines] == ["a charming film", "no"]


def test_watch_example(small_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a charming film " * 200)
    assert '"file": "one.txt"' in example("watch_a_folder.py", str(small_bundle), str(tmp_path), "--once")


def test_recipe_example() -> None:
    from edgekit.recipe import load_recipe

    assert load_recipe(str(ROOT / "examples/reviews.yaml")).student.layers == 3


def test_every_benchmark_names_the_machine() -> None:
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()]
    assert len(scripts) > 10
    silent = [path.name for path in scripts if not re.search(r"isa\.(machine|cpu_model)", path.read_text())]
    assert not silent


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_benchmarks(path: Path) -> None:
    from edgekit.recipe import load_recipe

    found = load_recipe(str(path))
    told = (ROOT / "docs").glob("*.md")
    assert any(path.name in page.read_text() for page in told) and found.data.train


@pytest.mark.parametrize(
    "block", re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/clip.md").read_text(), flags=re.DOTALL)
)
def test_recipes_of_the_clip_page(block: str, tmp_path: Path) -> None:
    from edgekit.recipe import load_recipe

    whole = {"task": "clip", "model": "new", "data": {"train": "rendered"}, **yaml.safe_load(block)}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(whole))
    found = load_recipe(str(tmp_path / "recipe.yaml")).model_dump()
    for part, given in yaml.safe_load(block).items():
        wanted, read = (given, found[part]) if isinstance(given, dict) else ({part: given}, found)
        assert part == "data" or all(read[key] == value or part == "stages" for key, value in wanted.items())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
