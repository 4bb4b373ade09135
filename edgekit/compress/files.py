"""Which model files go into the bundle, under which names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.bundle import ModelFile
from edgekit.compress.stage import Context
from edgekit.compress.stages import file_stage
from edgekit.distill import families
from edgekit.runtimes import artifact


@dataclass(frozen=True)
class Packed:
    """A model file to pack: the stage's ``folder`` that was judged and the engine's own ``fp32`` folder.

    ``source``: the folder whose files go into the bundle: ``folder``, unless the recipe packs it otherwise.
    ``failed``: why its gate refused it, for files that are packed all the same (``keep: failed``).
    ``rung``: of a ladder's lower rung, its name. ``like``: the path of another one whose files it shares in part.
    """

    path: str
    engine: str
    precision: str
    folder: Path
    fp32: Path
    source: Path
    failed: str = ""
    rung: str = ""
    like: str = ""

    def sources(self) -> dict[str, Path]:
        """Names in the bundle of all files that it consists of, and where they lie now."""
        return artifact.sources(self.source, self.path, self.like)

    def entry(self, task: str) -> ModelFile:
        """What the manifest says of it."""
        output = "embeddings" if task == "embed" else "logits"
        if self.engine in ("litert", "tflite-runtime"):
            output = ""  # its converter names outputs by number; there is one
        return artifact.entry(self.source, self.path, output, self.failed, self.like)


def to_pack(context: Context, work: Path) -> list[Packed]:
    """Every engine and precision of the recipe whose stage stayed; of an engine that kept none, its fp32.

    With ``keep: failed`` those that missed their bound too, marked. The rungs of a ladder come after the model itself,
    each with its own. ``work``: an empty folder for files made now.
    """
    recipe = context.recipe
    found = _of_rung(context, "")
    if not any(not one.failed for one in found):
        context.progress.say("pack: nothing stayed for the engines asked for, so the bundle holds ONNX in fp32")
        plain = _file(context, "onnxruntime", "fp32")
        assert plain is not None, "export is required"
        found.append(plain)
    for depth in recipe.ladder[1:]:
        found += _of_rung(context, str(depth))
    sources = families.to_pack(recipe, [(one.folder, one.fp32) for one in found], work, context.progress)
    packed: list[Packed] = []
    for one, source in zip(found, sources, strict=True):
        before = packed if one.rung else []
        like = next((other.path for other in before if artifact.can_share(source, other.source)), "")
        packed.append(replace(one, source=source, like=like))
    return packed


def _of_rung(context: Context, rung: str) -> list[Packed]:
    recipe = context.recipe
    found = []
    for engine in dict.fromkeys(recipe.engines):
        mine = [one for precision in recipe.precision if (one := _file(context, engine, precision, rung))]
        plain = _file(context, engine, "fp32", rung)
        if not any(not one.failed for one in mine) and plain and not plain.failed:
            of = f" of the rung {rung}" if rung else ""
            context.progress.say(
                f"pack: no {', '.join(recipe.precision)}{of} stayed for {engine}, so it gets its fp32 file"
            )
            mine.append(plain)
        found += mine
    return found


def _file(context: Context, engine: str, precision: str, rung: str = "") -> Packed | None:
    stage, export = file_stage(engine, precision, rung), file_stage(engine, "fp32", rung)
    folder, failed = context.kept.get(stage), ""
    if folder is None and context.recipe.keep == "failed" and stage in context.missed:
        folder, failed = context.missed[stage]
    if folder is None or not artifact.is_artifact(folder):
        return None
    fp32 = context.kept.get(export, folder)
    about = artifact.read(folder)
    suffix = (".image" if about.towers else "") + Path(about.files[0]).suffix
    name = f"{precision}-tflite-runtime" if engine == "tflite-runtime" else precision
    path = f"models/{rung}/{name}{suffix}" if rung else f"models/{name}{suffix}"
    return Packed(path, engine, precision, folder, fp32, folder, failed, rung)
