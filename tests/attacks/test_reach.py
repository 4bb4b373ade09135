"""Model files that name others: refused before an engine opens them, by walks of our own over the three formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgekit
from edgekit.bundle import Manifest, ModelFile, open_bundle, write
from edgekit.bundle.reach import onnx as onnx_walk
from edgekit.bundle.reach import tflite as tflite_walk
from edgekit.errors import BundleError, EdgekitError, EngineError
from edgekit.runtimes.load import load_file
from tests.attacks import tiny
from tests.attacks.contents import outside

pytestmark = pytest.mark.timeout(60)


def with_model(made: Path, out: Path, engine: str, files: dict[str, bytes]) -> Path:
    """A bundle whose one model is the first of ``files``, for ``engine``."""
    bundle = open_bundle(made)
    first, *parts = files
    manifest = dataclasses.replace(
        bundle.manifest, models=[ModelFile(first, engine, "fp32", parts=parts)], golden={}, files=[]
    )
    assert isinstance(manifest, Manifest)
    write(out, manifest, {"tokenizer.json": made / "tokenizer.json", **files})
    return out


def refused(root: Path, *words: str, error: type[EdgekitError] = BundleError) -> None:
    """By whoever loads its model file, with the engine installed or not."""
    bundle = open_bundle(root)
    with pytest.raises(error) as caught:
        load_file(bundle, bundle.manifest.models[0], 1)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


def test_every_way_to_a_tensor_is_walked() -> None:
    """The table holds each message of onnx.proto that leads to a tensor, and the fields that lead there."""
    messages = onnx.onnx_ml_pb2.DESCRIPTOR.message_types_by_name
    inner = {
        name: {field.number: field.message_type.name for field in message.fields if field.message_type}
        for name, message in messages.items()
    }
    leads = {"TensorProto"}
    for _ in inner:  # as often as there are messages: then nothing new is found
        leads |= {name for name, fields in inner.items() if leads & set(fields.values())}
    expected, waiting = {}, ["ModelProto"]
    while waiting:
        name = waiting.pop()
        expected[name] = {number: to for number, to in inner[name].items() if to in leads}
        waiting += set(expected[name].values()) - {*expected, "TensorProto"}
    walked = {name: fields for name, fields in onnx_walk.MESSAGES.items() if name != "TensorProto"}
    assert walked == expected
    external = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"]
    assert onnx_walk.MESSAGES["TensorProto"] == {external.number: external.message_type.name}


def test_external_data_inside_the_bundle_is_fine(made: dict[str, Path], tmp_path: Path) -> None:
    found = tiny.text_model(0)
    table = found.graph.initializer[0]
    data = numpy_helper.to_array(table).tobytes()
    outside(table, "fp32.data")
    files = {"models/fp32.onnx": found.SerializeToString(), "models/fp32.data": data}
    root = with_model(made["text"], tmp_path / "x.edge", "onnxruntime", files)
    answer = edgekit.load(root, threads=1).run("a good film")
    plain = edgekit.load(made["text"], threads=1).run("a good film")
    np.testing.assert_array_equal(answer.logits, plain.logits)


def test_a_word_in_a_name_is_no_place(made: dict[str, Path], tmp_path: Path) -> None:
    found = tiny.text_model(0)
    found.doc_string = "location"
    files = {"models/fp32.onnx": found.SerializeToString()}
    assert edgekit.load(with_model(made["text"], tmp_path / "x.edge", "onnxruntime", files), threads=1)


@pytest.mark.parametrize("repeat", [10, 3_000_000])
def test_a_walk_is_bounded(made: dict[str, Path], tmp_path: Path, repeat: int) -> None:
    """Fields of two bytes, as many as fit."""
    data = b"\x7a\x08location" + b"\x08\x00" * repeat + b"\x3a\x05\x0a"
    root = with_model(made["text"], tmp_path / "x.edge", "onnxruntime", {"models/m.onnx": data})
    refused(root, "models/m.onnx", "fields" if repeat > 10 else "ends behind", error=EngineError)


def test_graphs_in_graphs_are_bounded(made: dict[str, Path], tmp_path: Path) -> None:
    inner = b"\x7a\x08location"
    for number in (6, 5, 1) * 60:  # attribute -> graph -> node, from the inside
        inner = bytes([number << 3 | 2]) + varint(len(inner)) + inner
    data = b"\x3a" + varint(len(inner)) + inner
    root = with_model(made["text"], tmp_path / "x.edge", "onnxruntime", {"models/m.onnx": data})
    refused(root, "in each other", error=EngineError)


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


IR = '<?xml version="1.0"?><net name="x" version="11"><layers><layer id="0" type="Const">{}</layer></layers></net>'
XML: dict[str, tuple[str, str]] = {
    "not XML": ("ONNX", "in XML"),
    "nothing": ("", "in XML"),
    "another root": ("<html/>", "<net>"),
    "entity of a file": ('<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net>&x;</net>', "document type"),
    "entities of entities": ('<!DOCTYPE net [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><net>&b;</net>', "document type"),
    "an outer definition": ('<!DOCTYPE net SYSTEM "http://127.0.0.1/x.dtd"><net/>', "document type"),
    "behind the weights": (IR.format('<data offset="4" size="8"/>'), "which has 8 bytes"),
    "before the weights": (IR.format('<data offset="-4" size="4"/>'), "which has 8 bytes"),
    "no number": (IR.format('<data offset="0x0" size="4"/>'), "which has 8 bytes"),
    "far behind": (IR.format(f'<data offset="{"9" * 400}" size="4"/>'), "which has 8 bytes"),
    "deep": ("<net>" + "<a>" * 10**5, "in each other"),
    "cut off": (IR.format("")[:-20], "in XML"),
    "two roots": ("<net/><net/>", "in XML"),
    "UTF-16": (IR.format("").encode("utf-16").decode("latin-1"), "a byte of zero"),
}


@pytest.mark.parametrize("name", XML)
def test_openvino_xml(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    text, word = XML[name]
    files = {"models/m.xml": text.encode("latin-1"), "models/m.bin": b"12345678"}
    root = with_model(made["text"], tmp_path / "x.edge", "openvino", files)
    outside = word in ("document type", "which has 8 bytes")
    refused(root, "models/m.xml", word, error=BundleError if outside else EngineError)


def test_openvino_weights_that_are_not_there(made: dict[str, Path], tmp_path: Path) -> None:
    files = {"models/m.xml": IR.format('<data offset="0" size="8"/>').encode()}
    refused(with_model(made["text"], tmp_path / "x.edge", "openvino", files), "which has 0 bytes")


def test_openvino_takes_a_file_by_its_content(made: dict[str, Path], tmp_path: Path) -> None:
    """An ONNX model with data outside, under the name of an IR: OpenVINO would know it for what it is."""
    found = tiny.text_model(0)
    outside(found.graph.initializer[0], "../secret")
    files = {"models/m.xml": found.SerializeToString(), "models/m.bin": b""}
    refused(with_model(made["text"], tmp_path / "x.edge", "openvino", files), "in XML", error=EngineError)


def tflite(change: Callable[[object, object], None] | None = None) -> bytes:
    """A TFLite model of one empty buffer, made with the official writer."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs the package ai-edge-litert")
    flatbuffers = pytest.importorskip("flatbuffers")
    model, buffer = schema.ModelT(), schema.BufferT()
    model.version, model.buffers = 3, [buffer]
    if change is not None:
        change(schema, model)
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _group(schema: object, model: object) -> None:
    group = schema.ExternalBufferGroupT()  # type: ignore[attr-defined]
    group.name = b"../weights.bin"
    model.externalBufferGroups = [group]  # type: ignore[attr-defined]


def _external(schema: object, model: object) -> None:
    model.externalBuffers = [schema.ExternalBufferT()]  # type: ignore[attr-defined]


def _far(schema: object, model: object) -> None:
    model.buffers[0].offset, model.buffers[0].size = 1 << 40, 8  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "word"), [(_group, "other files"), (_external, "other files"), (_far, "a buffer of")]
)
def test_tflite_buffers_elsewhere(
    made: dict[str, Path], tmp_path: Path, change: Callable[[object, object], None], word: str
) -> None:
    files = {"models/m.tflite": tflite(change)}
    refused(with_model(made["text"], tmp_path / "x.edge", "litert", files), "models/m.tflite", word)


def test_tflite_cut_off_anywhere(tmp_path: Path) -> None:
    whole = tflite(_external)
    for end in range(0, len(whole), 4):
        (tmp_path / "m.tflite").write_bytes(whole[:end])
        with pytest.raises((BundleError, EngineError), match=r"m\.tflite"):
            tflite_walk.check(tmp_path / "m.tflite", "m.tflite", {})


def test_memory_beyond_a_tensor_is_not_read(made: dict[str, Path]) -> None:
    """Token ids of 4 billion for a table of 15 rows: an error, in the engine that we can always test."""
    model = edgekit.load(made["text"], threads=1)
    ids = np.array([[2, 1 << 31, 3]], np.int64)
    with pytest.raises(EngineError):
        model.loaded.run(ids, np.ones_like(ids))
