"""How right every model file of a bundle is, and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgekit.bundle import Bundle, ModelFile, TaskSpec, open_bundle
from edgekit.cache import cache_dir
from edgekit.data import PictureTextSet, TextSet, load_eval
from edgekit.data.captions import read_captions
from edgekit.data.sources import open_source
from edgekit.errors import EdgekitError, MissingDependencyError, ModelError
from edgekit.evaluate.dual import recall
from edgekit.evaluate.dual_predictor import DualRuntimePredictor
from edgekit.evaluate.metrics import Score, score
from edgekit.evaluate.outputs import Outputs
from edgekit.evaluate.predictors import RuntimePredictor, TorchPredictor, predict
from edgekit.progress import Progress, Silent
from edgekit.recipe import DataConfig, Source, load_recipe
from edgekit.runtimes import engines
from edgekit.runtimes.load import load_file

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model


def evaluate_bundle(
    path: str | Path,
    data: str,
    columns: Mapping[str, str] | None = None,
    with_teacher: bool = False,
    threads: int | None = None,
    progress: Progress = Silent(),
) -> list[dict[str, Any]]:
    """Score the model files of bundle ``path`` whose engine is installed on ``data`` (file, folder or id).

    ``columns`` names ``text``, ``label`` and ``pair``; without it the columns of the bundle's own recipe are tried.
    ``with_teacher`` adds a row for the teacher in torch fp32. For task clip ``data`` is a table of pictures and
    captions (columns ``image`` and ``text``). Embeddings of texts without pairs are held
    against the teacher's. Rows: file, engine, precision, metric, value, low, high (95 %), n, details.
    Raises BundleError, DataError, ModelError when the teacher is gone, MissingDependencyError without any engine.
    """
    bundle = open_bundle(path)
    spec = bundle.manifest.task
    runnable = [model for model in bundle.manifest.every_model if engines.installed(model.engine)]
    if not runnable:
        wanted = bundle.manifest.models[0].engine
        raise MissingDependencyError(f"{bundle.root.name}: {wanted}", fix=f"pip install 'edgekit[{wanted}]'")
    if spec.task == "clip":
        teachers = [teacher_folder(bundle)] if with_teacher else []
        pictures = read_captions(data, image=(columns or {}).get("image"), caption=(columns or {}).get("text"))
        rows = [_recall_row(bundle, model, pictures, threads, progress) for model in runnable]
        return rows + [_teachers_recall(bundle, folder, pictures, progress) for folder in teachers]
    texts = load_eval(data, spec.task, spec.labels, _hints(bundle, data, columns))
    needs_teacher = spec.task == "embed" and texts.pairs is None
    teacher: Outputs | None = None
    rows = []
    if with_teacher or needs_teacher:
        teacher = predict(TorchPredictor(teacher_folder(bundle)), texts, progress)
    for model in runnable:
        outputs = predict(RuntimePredictor(cast("Model", load_file(bundle, model, threads)), 0), texts, progress)
        found = _score(spec, outputs, texts, teacher)
        rows.append(_row(model.path, model.engine, model.precision, found))
    if with_teacher and teacher is not None:
        name = str(bundle.manifest.teacher.get("model", "teacher"))
        rows.append(_row(name, "torch", "fp32", _score(spec, teacher, texts, teacher)))
    return rows


def _recall_row(
    bundle: Bundle, model: ModelFile, pictures: PictureTextSet, threads: int | None, progress: Progress
) -> dict[str, Any]:
    loaded = cast("DualModel", load_file(bundle, model, threads))
    found = recall(DualRuntimePredictor(loaded, 0).predict(pictures, progress), pictures)
    return _row(model.path, model.engine, model.precision, found)


def _teachers_recall(bundle: Bundle, folder: Path, pictures: PictureTextSet, progress: Progress) -> dict[str, Any]:
    from edgekit.evaluate.torch_dual import TorchDualPredictor  # it brings torch

    found = recall(predict(TorchDualPredictor(folder), pictures, progress), pictures)
    return _row(str(bundle.manifest.teacher.get("model", "teacher")), "torch", "fp32", found)


def teacher_folder(bundle: Bundle) -> Path:
    """Where the teacher that made ``bundle`` lies: the path in the manifest, or that key in the cache.

    Raises ModelError when it is gone or was never recorded.
    """
    recorded = bundle.manifest.teacher.get("folder")
    fix = "Make the bundle again on this machine with `edgekit compress`, or leave the teacher out."
    if not isinstance(recorded, str) or not recorded:
        raise ModelError(f"{bundle.root.name}: its teacher", found="no folder in the manifest", fix=fix)
    for folder in (Path(recorded), cache_dir() / recorded):
        if (folder / "model.safetensors").is_file():
            return folder
    raise ModelError(f"{bundle.root.name}: its teacher", found=f"nothing at {recorded}", expected="its folder", fix=fix)


def _score(spec: TaskSpec, outputs: Outputs, texts: TextSet, teacher: Outputs | None) -> Score:
    return score(spec.task, outputs, texts, teacher=teacher, names=spec.labels)


def _row(file: str, engine: str, precision: str, found: Score) -> dict[str, Any]:
    return {
        "file": file,
        "engine": engine,
        "precision": precision,
        "metric": found.metric,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "details": found.details,
    }


def _hints(bundle: Bundle, data: str, columns: Mapping[str, str] | None) -> DataConfig | None:
    """Columns that the caller named, else those of the recipe that made the bundle."""
    if columns:
        named = Source(path=data, text=columns.get("text"), label=columns.get("label"), pair=columns.get("pair"))
        open_source(named, bundle.manifest.task.task, Silent())  # a column asked for by name must be there
        return DataConfig(train=[named])
    try:
        return load_recipe(bundle.file("recipe.yaml")).data
    except EdgekitError:
        return None  # a bundle may be made by hand, without a recipe that this version reads
