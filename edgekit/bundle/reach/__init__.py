"""Before an engine opens a model file: that it names no file outside the bundle.

The three formats are walked here with code of our own, bounded and without the packages that write them. It is no proof
that an engine's parser is sound: only a signature says that a file comes from somebody who is trusted.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from edgekit.errors import EngineError

if TYPE_CHECKING:
    from edgekit.bundle.reader import Bundle
    from edgekit.bundle.records import ModelFile

# By engine: the suffix of its files, and the module that looks at one. An engine may take a file by its content,
# whatever its name, so a file of another suffix is refused, and each module is strict about what the content is.
_FORMATS = {
    "onnxruntime": (".onnx", "onnx"),
    "openvino": (".xml", "openvino"),
    "litert": (".tflite", "tflite"),
    "tflite-runtime": (".tflite", "tflite"),
}


def check(bundle: Bundle, model: ModelFile) -> None:
    """Raises ``BundleError`` unless all files of ``model`` (each of its towers) stay inside ``bundle``.

    One that is not of its engine's format is an ``EngineError``, as the engine would have it: others may still serve.
    Files of an engine that this version does not know are not looked at, as they are not run.
    """
    if model.engine not in _FORMATS:
        return
    suffix, name = _FORMATS[model.engine]
    look = import_module(f"{__name__}.{name}").check  # one of the three: a device does not pay for the others
    listed = {entry.path: entry.bytes for entry in bundle.manifest.files}
    towers = [tower.path for name in ("image", "text") if (tower := model.tower(name)) is not None]
    for path in towers or [model.path]:
        if PurePosixPath(path).suffix != suffix:
            raise EngineError(f"{model.engine} cannot load {path!r:.80}", expected=f"a file NAME{suffix}")
        look(bundle.file(path), path, listed)
