"""Frames: what was sent arrives, anything else is refused."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.runtimes.recovery import wire
from edgekit.runtimes.recovery.faults import Fault

SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
DTYPES = st.sampled_from(["<f4", "<i8", "<f2", "<i4", "u1", "i1"])


def array(code: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Any bytes at all, NaN among them."""
    size = int(np.prod(shape)) * np.dtype(code).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size), code).reshape(shape)


ARRAYS = st.lists(st.builds(array, DTYPES, SHAPES, st.integers(0, 1 << 30)), max_size=wire.MAX_ARRAYS)


def joined(arrays: list[np.ndarray]) -> memoryview:
    return memoryview(b"".join(bytes(part) for part in wire.pack(arrays)))


@SOME
@given(ARRAYS)
def test_arrays_come_back_to_the_last_bit(arrays: list[np.ndarray]) -> None:
    found = wire.unpack(joined(arrays))
    assert [(one.dtype, one.shape, one.tobytes()) for one in found] == [
        (one.dtype, one.shape, one.tobytes()) for one in arrays
    ]


@SOME
@given(ARRAYS, st.data())
def test_what_is_not_whole_is_refused(arrays: list[np.ndarray], data: st.DataObject) -> None:
    body = joined(arrays)
    cut = data.draw(st.integers(0, len(body)))
    for spoilt in (body[:cut], memoryview(bytes(body) + b"\0")):
        if len(spoilt) != len(body):
            with pytest.raises(Fault) as caught:
                wire.unpack(spoilt)
            assert caught.value.kind == "wire"


@SOME
@given(st.binary(max_size=200))
def test_any_bytes_are_arrays_or_refused(data: bytes) -> None:
    try:
        found = wire.unpack(memoryview(data))
    except Fault:
        return
    assert joined(found) == data


@pytest.mark.parametrize("wrong", [np.zeros(2), np.zeros((1,) * 9, np.float32), np.array([object()]), "text"])
def test_what_has_no_place_in_the_format_is_not_sent(wrong: object) -> None:
    with pytest.raises(Fault, match="array"):
        wire.pack([wrong])  # type: ignore[list-item]


@pytest.fixture
def ends() -> tuple[wire.Pipe, wire.Pipe]:
    """Two ends that speak to each other."""
    (a, b), (c, d) = os.pipe(), os.pipe()
    return wire.Pipe(a, d), wire.Pipe(c, b)


def test_a_frame_larger_than_a_pipe_holds(ends: tuple[wire.Pipe, wire.Pipe]) -> None:
    picture = np.random.default_rng(0).normal(size=(3, 700, 700)).astype(np.float32)
    sender = threading.Thread(target=ends[0].send, args=(wire.RUN, 1, 7, wire.pack([picture])))
    sender.start()
    frame = ends[1].receive(time.monotonic() + 60)
    sender.join()
    assert frame[:3] == (wire.RUN, 1, 7)
    assert np.array_equal(wire.unpack(frame.body)[0], picture)


def test_nobody_waits_longer_than_said(ends: tuple[wire.Pipe, wire.Pipe]) -> None:
    with pytest.raises(Fault) as caught:
        ends[0].receive(time.monotonic() + 0.05)
    assert caught.value.kind == "hang"
    big = wire.pack([np.zeros(1 << 21, np.uint8)])
    with pytest.raises(Fault) as caught:
        ends[0].send(wire.RUN, 0, 1, big, time.monotonic() + 0.05)  # nobody reads
    assert caught.value.kind == "hang"


@pytest.mark.parametrize(
    "data", [b"EKw9" + bytes(18), b"EKw1" + bytes(10) + b"\xff" * 8], ids=["magic", "billions of bytes"]
)
def test_what_is_no_frame_is_refused_before_it_is_read(ends: tuple[wire.Pipe, wire.Pipe], data: bytes) -> None:
    os.write(ends[1].writing, data)
    with pytest.raises(Fault) as caught:
        ends[0].receive(time.monotonic() + 60)
    assert caught.value.kind == "wire"


def test_the_end_of_the_pipe(ends: tuple[wire.Pipe, wire.Pipe]) -> None:
    os.close(ends[1].writing)
    os.close(ends[1].reading)
    with pytest.raises(Fault) as caught:
        ends[0].receive()
    assert caught.value.kind == "died"
    with pytest.raises(Fault) as caught:
        ends[0].send(wire.RUN, 0, 1, [b""])
    assert caught.value.kind == "died"
