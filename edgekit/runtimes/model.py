"""A model on the device: text in, numpy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgekit.bundle.dual import Tower
from edgekit.bundle.records import TaskSpec
from edgekit.errors import EngineError, InputError
from edgekit.runtimes import engines
from edgekit.runtimes.answers import Classification, Floats, Tag, tags
from edgekit.runtimes.engines import Engine
from edgekit.runtimes.engines.placement import placements
from edgekit.runtimes.pipeline import Prepared, TextPipeline
from edgekit.runtimes.preprocess import TextPreprocessor, as_texts
from edgekit.runtimes.threads import thread_count


class Model:
    """A tokenizer and a model file in an engine, as :func:`edgekit.load` and :meth:`from_files` give it.

    ``spec``: the task; ``engine``: its name, ``engine_version``, and ``loaded``, the engine itself; ``file``: the model
    file's name; ``precision``; ``threads``; ``placements``: in onnxruntime, under "", which execution providers serve
    and how many nodes each has (docs/boards/jetson.md). ``prepare``, ``forward`` and ``finish`` are the three parts of
    one inference, for those who time them.
    """

    towers: Mapping[str, Tower] = MappingProxyType({})  # those of a DualModel

    def __init__(
        self, pipeline: TextPipeline, loaded: Engine, engine: str, file: str, precision: str, threads: int
    ) -> None:
        self.pipeline, self.loaded = pipeline, loaded
        self.spec = pipeline.spec
        self.engine, self.file, self.precision, self.threads = engine, file, precision, threads
        self.engine_version = loaded.version
        self.placements = placements({"": loaded})

    @classmethod
    def from_files(
        cls,
        model_path: Path,
        tokenizer_json: Path,
        spec: TaskSpec,
        engine: str = "onnxruntime",
        precision: str = "fp32",
        threads: int | None = None,
        inputs: Sequence[str] = ("input_ids", "attention_mask"),
        output: str = "",
        file: str = "",
        create: engines.Create = engines.create,
    ) -> Model:
        """Load ``model_path``; ``threads`` None takes what the process may use.

        ``output``: the output's name, the first when empty; ``file``: the name to go by; ``create``: what loads the
        file. Raises ``EngineError``, ``BundleError`` (tokenizer), ``MissingDependencyError``, ``InputError``.
        """
        threads = thread_count(threads)
        if len(inputs) != 2:
            raise EngineError(f"inputs of {Path(model_path).name}", found=list(inputs), expected="token ids and mask")
        preprocessor = TextPreprocessor(tokenizer_json, spec, threads)
        loaded = create(engine, Path(model_path), threads, (inputs[0], inputs[1]), output, precision)
        width = loaded.output_width
        if spec.task != "embed" and width is not None and width != len(spec.labels):
            raise EngineError(
                f"output of {Path(model_path).name}",
                found=f"{width} classes",
                expected=f"{len(spec.labels)}, one a label",
            )
        pipeline = TextPipeline(preprocessor, loaded.run, loaded.batching, loaded.length_step)
        return cls(pipeline, loaded, engine, file or Path(model_path).name, precision, threads)

    def prepare(self, inputs: str | Sequence[str]) -> Prepared:
        """First part: tokenize, cut into windows, pad. Holds all of ``inputs`` in memory."""
        return self.pipeline.prepare([inputs] if type(inputs) is str else as_texts(inputs))

    def forward(self, prepared: Prepared) -> list[Floats]:
        """Second part: the engine's output of each micro-batch."""
        return self.pipeline.forward_all(prepared)

    def finish(self, prepared: Prepared, raw: list[Floats]) -> Any:
        """Third part: the task's answer, as :meth:`run` gives it (tag: raw scores, as :meth:`logits`)."""
        outputs = self.pipeline.finish(prepared, raw)
        return Classification(outputs, self.spec.labels) if self.spec.task == "classify" else outputs

    def run(self, inputs: str | Sequence[str]) -> Classification | Floats | list[list[Tag]]:
        """What the task answers: :meth:`classify`, :meth:`embed` or :meth:`tag`."""
        task = self.spec.task
        if task == "classify":
            return self.classify(inputs)
        return self.embed(inputs) if task == "embed" else self.tag(inputs)

    def logits(self, texts: str | Sequence[str]) -> Any:
        """Raw outputs, float32: classify (n, C) logits; embed (n, D); tag: a list of n arrays (words, C).

        A word of which the tokenizer keeps no piece has zeros.
        """
        return self.pipeline.outputs([texts] if type(texts) is str else as_texts(texts))

    def raw(self, texts: Sequence[str]) -> dict[str, list[Floats]]:
        """The outputs for ``texts``: :meth:`logits` as a list, under the name "" of a model without towers."""
        return {"": list(self.logits(texts))}

    def token_ids(self, text: str) -> list[list[int]]:
        """The ids of each window that ``text`` becomes."""
        return [window.ids for window in self.pipeline.preprocessor.windows([text])]

    def classify(self, texts: str | Sequence[str]) -> Classification:
        """Classes of n texts. Raises ``InputError`` for anything but text, or when the task is another."""
        self._expect("classify")
        return Classification(self.logits(texts), self.spec.labels)

    def embed(self, texts: str | Sequence[str]) -> Floats:
        """Embeddings, float32 (n, D); unit length where the spec says so. ``InputError`` as in :meth:`classify`."""
        self._expect("embed")
        return self.logits(texts)  # type: ignore[no-any-return]

    def tag(self, texts: str | Sequence[str]) -> list[list[Tag]]:
        """One list of :class:`Tag` a text, one tag a whitespace word. ``InputError`` as in :meth:`classify`."""
        self._expect("tag")
        found = self.pipeline.tagged(as_texts(texts))
        return [tags(text, words, scores, self.spec.labels) for text, words, scores in found]

    def _expect(self, task: str) -> None:
        if self.spec.task != task:
            raise InputError(f"{task}()", found=f"a model for task {self.spec.task}", expected=f"{self.spec.task}()")

    def __repr__(self) -> str:
        return f"Model({self.file}, {self.engine}, {self.precision}, task {self.spec.task}, {self.threads} threads)"
