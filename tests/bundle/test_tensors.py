"""Our safetensors reader and writer, beside the reference implementation and under fuzzing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.bundle import read_tensors, write_tensors
from edgekit.errors import BundleError, EdgekitError, InputError

DTYPES = st.sampled_from([np.float32, np.float16, np.int64, np.int32, np.int8, np.uint8]).map(np.dtype)
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))
TENSORS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=12), ARRAYS, max_size=5).filter(
    lambda t: "__metadata__" not in t
)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


@settings(max_examples=80, deadline=None)
@given(tensors=TENSORS)
def test_round_trip_and_agreement_with_safetensors(tensors: dict[str, np.ndarray]) -> None:
    data = write_tensors(tensors)
    assert data == write_tensors(dict(reversed(tensors.items())))
    assert same(read_tensors(data), tensors)
    assert same(reference.load(data), tensors)
    assert same(read_tensors(reference.save(tensors, {"format": "np"})), tensors)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), length=st.integers(0, 2**64 - 1), honest=st.booleans())
def test_any_bytes_give_a_typed_error_or_tensors(data: bytes, length: int, honest: bool) -> None:
    head = (len(data) if honest else length).to_bytes(8, "little")
    with contextlib.suppress(EdgekitError):
        read_tensors(head + data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("F32"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    header=st.dictionaries(
        st.text(max_size=4),
        JSON | st.fixed_dictionaries({"dtype": st.just("F32") | JSON, "shape": JSON, "data_offsets": JSON}),
    ),
    body=st.binary(max_size=32),
)
def test_any_header_gives_a_typed_error_or_tensors(header: dict[str, object], body: bytes) -> None:
    text = json.dumps(header).encode()
    with contextlib.suppress(EdgekitError):
        read_tensors(len(text).to_bytes(8, "little") + text + body)


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_flipped_bits_never_escape_as_other_errors(position: int, bit: int) -> None:
    data = bytearray(write_tensors({"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 3), np.int64)}))
    data[position % len(data)] ^= 1 << bit
    with contextlib.suppress(EdgekitError):
        read_tensors(bytes(data))


def raw(header: str, body: bytes = b"") -> bytes:
    return len(header.encode()).to_bytes(8, "little") + header.encode() + body


def one(name: str, begin: int, end: int) -> str:
    return f'"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{begin},{end}]}}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"\xff" * 8, "header"),
        (raw("{" + one("a", 0, 4) + "}", b"123"), "data_offsets"),
        (raw("{" + one("a", 0, 4) + "}", b"12345"), "5 bytes of data"),
        (raw("{" + one("a", 4, 8) + "}", b"12345678"), "no holes"),
        (raw("{" + one("a", 0, 4) + "," + one("b", 0, 4) + "}", b"1234"), "no overlap"),
        (raw("{" + one("a", 0, 4) + "," + one("a", 0, 4) + "}", b"1234"), "twice"),
        (raw('{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}', b"12345678"), "dtype"),
        (raw('{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'), "data_offsets"),
        (raw('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}'), "shape"),
        (raw("[]"), "an object"),
        (raw('{"a":' + "[" * 100_000), "JSON"),
        (raw('{"a":NaN}'), "finite"),
    ],
)
def test_each_abuse_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "golden.safetensors"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"golden\.safetensors") as caught:
        read_tensors(path)
    assert message in str(caught.value)


def test_what_cannot_be_written() -> None:
    for tensors in ({"a": np.zeros(2)}, {"a": np.zeros(2, ">f4")}, {"__metadata__": np.zeros(2, np.int8)}):
        with pytest.raises(InputError, match="tensor"):
            write_tensors(tensors)
