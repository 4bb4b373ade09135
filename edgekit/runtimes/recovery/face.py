"""The methods and attributes of ``Model`` and ``DualModel``, each handed to the session that serves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from edgekit.bundle.dual import Tower
from edgekit.bundle.records import TaskSpec
from edgekit.errors import InputError
from edgekit.runtimes.recovery.session import Session

if TYPE_CHECKING:
    from edgekit.runtimes.answers import Classification, Floats, Tag
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.index import Hit, Index
    from edgekit.runtimes.model import Model
    from edgekit.runtimes.prompts import PromptBank
    from edgekit.runtimes.ranking import Match, ZeroShot

Answer = TypeVar("Answer")


class Prepared(NamedTuple):
    """Inputs on their way: as they came in, and as ``session`` prepared them."""

    inputs: Any
    session: Session
    value: Any


class Raw(NamedTuple):
    """What the engine of a session gave, with what that session was given."""

    prepared: Prepared
    value: Any


class Face(ABC):
    """All that can be asked of a model, and what it says of itself. Errors as there, and ``NoAnswer``."""

    @abstractmethod
    def _serve(self, ask: Callable[[Session], Answer]) -> Answer:
        """What ``ask`` gets of the session that serves."""

    @abstractmethod
    def _ready(self) -> Session:
        """The session that serves, waited for as long as patience lasts. Raises ``NoAnswer``."""

    @property
    @abstractmethod
    def _model(self) -> Model | DualModel:
        """The model that serves, or that served last."""

    def prepare(self, inputs: Any) -> Prepared:
        """First part. Raises ``InputError``, ``NoAnswer``."""
        session = self._ready()
        return Prepared(inputs, session, session.model.prepare(inputs))

    def forward(self, prepared: Prepared) -> Raw:
        """Second part. Another session than the one that prepared prepares again: engines differ in batches."""

        def ask(session: Session) -> Raw:
            own = prepared
            if session is not prepared.session:
                own = Prepared(prepared.inputs, session, session.model.prepare(prepared.inputs))
            return Raw(own, cast("Any", session.model).forward(own.value))

        return self._serve(ask)

    def finish(self, prepared: Prepared, raw: Raw) -> Any:
        """Third part, by the session that ``raw`` came from."""
        del prepared
        return cast("Any", raw.prepared.session.model).finish(raw.prepared.value, raw.value)

    def run(self, inputs: Any) -> Any:
        """As ``Model.run`` or ``DualModel.run``."""
        return self._serve(lambda session: session.model.run(inputs))

    def raw(self, examples: Sequence[Any]) -> dict[str, list[Floats]]:
        """As ``Model.raw`` or ``DualModel.raw``."""
        return self._serve(lambda session: session.model.raw(examples))

    def token_ids(self, text: str) -> list[list[int]]:
        """As the model's own; it needs no engine."""
        return self._model.token_ids(text)

    def logits(self, texts: str | Sequence[str]) -> Any:
        """As ``Model.logits``."""
        return self._serve(lambda session: self._text(session).logits(texts))

    def classify(self, texts: str | Sequence[str]) -> Classification:
        """As ``Model.classify``."""
        return self._serve(lambda session: self._text(session).classify(texts))

    def embed(self, texts: str | Sequence[str]) -> Floats:
        """As ``Model.embed``."""
        return self._serve(lambda session: self._text(session).embed(texts))

    def tag(self, texts: str | Sequence[str]) -> list[list[Tag]]:
        """As ``Model.tag``."""
        return self._serve(lambda session: self._text(session).tag(texts))

    def embed_images(self, images: object, bgr: bool = False) -> Floats:
        """As ``DualModel.embed_images``."""
        return self._serve(lambda session: self._dual(session).embed_images(images, bgr))

    def embed_pixels(self, pixel_values: Floats) -> Floats:
        """As ``DualModel.embed_pixels``."""
        return self._serve(lambda session: self._dual(session).embed_pixels(pixel_values))

    def embed_texts(self, texts: str | Sequence[str]) -> Floats:
        """As ``DualModel.embed_texts``."""
        return self._serve(lambda session: self._dual(session).embed_texts(texts))

    def prompts(self, labels: str | Sequence[str], templates: str | Sequence[str] | None = None) -> PromptBank:
        """As ``DualModel.prompts``."""
        return self._serve(lambda session: self._dual(session).prompts(labels, templates))

    def zero_shot(self, images: object, *given: Any, **named: Any) -> ZeroShot:
        """As ``DualModel.zero_shot``."""
        return self._serve(lambda session: self._dual(session).zero_shot(images, *given, **named))

    def choose(self, image: object, candidates: Sequence[str], *given: Any, **named: Any) -> list[Match]:
        """As ``DualModel.choose``."""
        return self._serve(lambda session: self._dual(session).choose(image, candidates, *given, **named))

    def search(self, query: object, index: Index, k: int = 10, bgr: bool = False) -> list[Hit]:
        """As ``DualModel.search``."""
        return self._serve(lambda session: self._dual(session).search(query, index, k, bgr))

    @property
    def spec(self) -> TaskSpec:
        """The task."""
        return self._model.spec

    @property
    def engine(self) -> str:
        """The engine that serves, or that served last; so are all that follow."""
        return self._model.engine

    @property
    def engine_version(self) -> str:
        """Its version."""
        return self._model.engine_version

    @property
    def file(self) -> str:
        """The model file's path in the bundle."""
        return self._model.file

    @property
    def precision(self) -> str:
        """The model file's precision."""
        return self._model.precision

    @property
    def threads(self) -> int:
        """The engine's threads."""
        return self._model.threads

    @property
    def towers(self) -> Mapping[str, Tower]:
        """Those of a dual encoder."""
        return self._model.towers

    def _text(self, session: Session) -> Model:
        return cast("Model", _of_task(session, dual=False))

    def _dual(self, session: Session) -> DualModel:
        return cast("DualModel", _of_task(session, dual=True))


def _of_task(session: Session, dual: bool) -> Model | DualModel:
    task = session.model.spec.task
    if (task == "clip") != dual:
        raise InputError("the method", found=f"a model for task {task}", expected="clip" if dual else "a task of texts")
    return session.model
