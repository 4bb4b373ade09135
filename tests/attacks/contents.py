"""Bundles whose hashes are right and whose files are hostile: what one could make who can write the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit.bundle import read_tensors, write_tensors
from edgekit.errors import BundleError, EngineError
from tests.attacks.hostile import CASES, Case, case, model
from tests.attacks.tiny import LABELS, WORDS, edit, manifest_of, reseal, text_model

# Of the text bundle alone: the dual encoder's text tower may take more token ids than its tokenizer has.
TEXT: list[Case] = []
GOLDEN = "golden.safetensors"


# The tokenizer.
def tokenizer_case(name: str, data: bytes, *words: str) -> None:
    def spoil(root: Path) -> None:
        (root / "tokenizer.json").write_bytes(data)
        reseal(root)

    TEXT.append(Case(f"tokenizer: {name}", spoil, words or ("tokenizer.json", "cannot be read")))


def changed_tokenizer(root: Path, change: Any) -> None:
    value = json.loads((root / "tokenizer.json").read_bytes())
    change(value)
    (root / "tokenizer.json").write_text(json.dumps(value))
    reseal(root)


tokenizer_case("nothing", b"")
tokenizer_case("not JSON", b"\x80\x04\x95 a pickle")
tokenizer_case("not UTF-8", b'{"version": "\xff"}')
tokenizer_case("lists in lists", b'{"version":' + b"[" * 10**6)
tokenizer_case("an unknown kind of model", b'{"version":"1.0","model":{"type":"Shell","cmd":"id"}}')
tokenizer_case("no unknown token", b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"x":0},"unk_token":"?"}}')
tokenizer_case(
    "a pattern that is no regular expression",
    b'{"version":"1.0","normalizer":{"type":"Replace","pattern":{"Regex":"((((("},"content":""},'
    b'"model":{"type":"WordLevel","vocab":{"?":0},"unk_token":"?"}}',
)
tokenizer_case(
    "a token id of 2^40", b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"?":1099511627776},"unk_token":"?"}}'
)


def tokens_beyond_the_table(root: Path) -> None:
    """Ids of 4 billion for a table of 15 rows: the engine must see it, not read there."""

    def change(value: dict[str, Any]) -> None:
        value["model"]["vocab"] = {word: (1 << 32) - 1 - i for i, word in enumerate(WORDS)}

    changed_tokenizer(root, change)


def words_that_changed_places(root: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        vocab = value["model"]["vocab"]
        vocab["good"], vocab["bad"] = vocab["bad"], vocab["good"]

    changed_tokenizer(root, change)


TEXT += [
    Case(one.__name__, one, ("no engine runs",), EngineError)
    for one in (tokens_beyond_the_table, words_that_changed_places)
]


# Golden vectors.
def golden_case(name: str, change: Any, *words: str, error: type = BundleError) -> None:
    def spoil(root: Path) -> None:
        tensors = read_tensors(root / GOLDEN)
        change(tensors, next(key for key in tensors if key.startswith("outputs.")))
        (root / GOLDEN).write_bytes(write_tensors(tensors))
        reseal(root)

    CASES.append(Case(name, spoil, words, error))


def _put(value: Any) -> Any:
    return lambda tensors, key: tensors.update({key: value(tensors[key])})


_GOLDEN = {
    "not a number": (_put(lambda rows: rows * np.float32("nan")), ("NaN", "finite"), BundleError),
    "infinite": (_put(lambda rows: rows + np.float32("inf")), ("NaN", "finite"), BundleError),
    "another width": (_put(lambda rows: np.tile(rows, (1, 7))), ("no engine runs",), EngineError),
    "no width": (_put(lambda rows: rows[:, :0]), ("no engine runs",), EngineError),
    "fewer rows": (_put(lambda rows: rows[1:]), ("rows.",), BundleError),
    "other numbers": (_put(lambda rows: -rows), ("no engine runs",), EngineError),
    "another type": (_put(lambda rows: rows.astype(np.float16)), ("outputs.",), BundleError),
    "missing": (lambda tensors, key: tensors.pop(key), ("no engine runs",), EngineError),
    "negative lengths": (
        lambda tensors, _: tensors.update({"ids.lengths": -tensors["ids.lengths"]}),
        ("ids.lengths",),
        BundleError,
    ),
    "windows of another text": (
        lambda tensors, _: tensors.update({"ids.windows": tensors["ids.windows"][:-1]}),
        ("ids",),
        BundleError,
    ),
}


def _raw(name: str, data: bytes, *words: str) -> None:
    def spoil(root: Path) -> None:
        (root / GOLDEN).write_bytes(data)
        reseal(root)

    CASES.append(Case(name, spoil, (GOLDEN, *words)))


def _one(kind: str, shape: str, size: int, start: int = 0) -> bytes:
    """A safetensors file of one tensor of ``size`` bytes, as its header tells it."""
    offsets = f"[{start},{start + size}]"
    header = f'{{"a":{{"dtype":"{kind}","shape":{shape},"data_offsets":{offsets}}}}}'.encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * (start + size)


for _name, (_change, _words, _error) in _GOLDEN.items():
    golden_case(f"golden: {_name}", _change, *_words, error=_error)
_raw("golden: a header of 2^63 bytes", b"\xff" * 8 + b"{}", "header")
_raw("golden: a shape of 2^120", _one("F32", f"[{1 << 60},{1 << 60}]", 4), "data_offsets")
_raw("golden: a shape of 2^50", _one("F32", f"[{1 << 50}]", 4), "data_offsets")
_raw("golden: nothing times 2^65", _one("I8", f"[0,{1 << 62},8]", 0), "shape")
_raw("golden: nothing times 2^60", _one("F32", f"[0,{1 << 60}]", 0), "shape")
_raw("golden: negative sizes", _one("F32", "[-1]", 4), "shape")
_raw("golden: a gap", _one("I8", "[4]", 4, start=2), "no holes")
_raw("golden: objects instead of numbers", _one("O", "[1]", 8), "dtype")


@case("golden", "characters")
def golden_texts_of_2_million_characters(root: Path) -> None:
    edit(root, lambda value: value["golden"].update(texts=["x" * 2_000_000] * len(value["golden"]["texts"])))


@case("tolerance", error=EngineError)
def no_tolerance(root: Path) -> None:
    edit(root, lambda value: value["golden"].update(tolerances=[]))


@case("tolerances", "a number")
def tolerance_without_end(root: Path) -> None:
    text = (root / "manifest.json").read_text()
    (root / "manifest.json").write_text(text.replace('"max_abs": ', '"max_abs": 1e999, "x": ', 1))


# Model files.
@case("no engine runs", "a file NAME.onnx", error=EngineError)
def model_of_another_suffix(root: Path) -> None:
    """Engines go by the suffix, or by the content: both must be what was looked at."""
    old = manifest_of(root)["models"][0]["path"]
    new = old.replace(".onnx", ".ort")
    (root / old).rename(root / new)
    text = (root / "manifest.json").read_text().replace(old, new)
    (root / "manifest.json").write_text(text)


def onnx_case(name: str, change: Any, *words: str, error: type = BundleError) -> None:
    def spoil(root: Path) -> None:
        found = onnx.load_from_string(model(root).read_bytes())
        change(found)
        model(root).write_bytes(found.SerializeToString())
        reseal(root)

    CASES.append(Case(name, spoil, words, error))


def outside(tensor: TensorProto, place: str | bytes) -> None:
    """Let ``tensor`` take its data from the file ``place``."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", place


def _in_a_branch(found: onnx.ModelProto) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    outside(tensor, "../secret")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "branch", [], [])
    found.graph.node.append(helper.make_node("If", ["axis"], ["n"], then_branch=inner, else_branch=inner))


def _in_a_function(found: onnx.ModelProto) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    outside(tensor, "/etc/passwd")
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    found.functions.append(helper.make_function("own", "f", [], ["c"], [node], []))


def _in_a_sparse_tensor(found: onnx.ModelProto) -> None:
    outside(found.graph.sparse_initializer.add().values, "../../x")


def _two_keys(found: onnx.ModelProto) -> None:
    outside(found.graph.initializer[0], "../x")
    found.graph.initializer[0].external_data.add(key="offset", value="0")


_PLACES = {
    "/etc/passwd": ("the path",),
    "../outside.bin": ("the path",),
    "a/../../outside.bin": ("the path",),
    "..\\outside.bin": ("the path",),
    "*/_ORT_MEM_ADDR_/*": ("the path",),  # onnxruntime's own word for an address in memory
    "missing.bin": ("a file that the manifest lists",),
}
for _place, _words in _PLACES.items():
    onnx_case(
        f"onnx: data in {_place}",
        lambda found, place=_place: outside(found.graph.initializer[0], place),
        "external data",
        *_words,
    )
onnx_case("onnx: data outside of a branch", _in_a_branch, "external data", "the path")
onnx_case("onnx: data outside of a function", _in_a_function, "external data", "the path")
onnx_case("onnx: data outside of a sparse tensor", _in_a_sparse_tensor, "external data", "the path")
onnx_case("onnx: an entry among others", _two_keys, "external data", "the path")
onnx_case(
    "onnx: a tensor of 2^60 numbers without data",
    lambda found: found.graph.initializer[0].CopyFrom(
        TensorProto(name=found.graph.initializer[0].name, data_type=1, dims=[1 << 30, 1 << 30])
    ),
    "no engine runs",
    error=EngineError,
)
onnx_case(
    "onnx: a negative size",
    lambda found: found.graph.initializer[0].CopyFrom(
        TensorProto(name=found.graph.initializer[0].name, data_type=1, dims=[-4, 8], raw_data=b"0" * 128)
    ),
    "no engine runs",
    error=EngineError,
)
onnx_case(
    "onnx: an operator of nobody's",
    lambda found: found.graph.node.append(helper.make_node("Exec", ["axis"], ["z"], domain="x.y")),
    "no engine runs",
    error=EngineError,
)


@case("no engine runs", "an ONNX model", error=EngineError)
def onnx_that_ends_inside_a_field(root: Path) -> None:
    model(root).write_bytes(b"\x3a\xff\x01location")
    reseal(root)


@case("no engine runs", "an ONNX model", error=EngineError)
def onnx_tag_that_wraps_around(root: Path) -> None:
    """Field 7 for a parser that keeps 32 bits of a tag, field 2^29 + 7 for one that keeps all."""
    inner = b"\x2a\x10\x6a\x0elocation......"
    model(root).write_bytes(b"\xba\x80\x80\x80\x10" + bytes([len(inner)]) + inner)
    reseal(root)


def swapped_engine_file(root: Path) -> None:
    """Another model of the same shape, with its own hash in the manifest."""
    model(root).write_bytes(text_model(1).SerializeToString())
    reseal(root)


def labels_of_another_model(root: Path) -> None:
    edit(root, lambda value: value["task"].update(labels=[*LABELS, "perfect"]))


TEXT += [
    Case(one.__name__, one, ("no engine runs",), EngineError) for one in (swapped_engine_file, labels_of_another_model)
]
