"""Cached embeddings: every format gives the same, and what is wrong with a file is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from edgekit.data.embeddings import CachedEmbeddings, read_embeddings
from edgekit.errors import DataError

matrices = arrays.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.floats(0.125, 8, width=16),
)


@settings(max_examples=25, deadline=None)
@given(matrices)
def test_every_format_gives_the_same(tmp_path_factory: pytest.TempPathFactory, matrix: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("cache")
    names = [f"ü{row}.jpg" for row in range(len(matrix))]
    np.savez(folder / "a.npz", filenames=np.array(names), embeddings=matrix, model=np.array("ViT"))
    save_file({"embeddings": matrix}, folder / "a.safetensors", {"names": json.dumps(names), "model": "ViT"})
    np.save(folder / "a.npy", matrix)
    (folder / "names.json").write_text(json.dumps(names))
    found = [
        read_embeddings(folder / "a.npz"),
        read_embeddings(folder / "a.safetensors"),
        read_embeddings(folder / "a.npy", model="ViT"),
        read_embeddings(folder / "a.npy", names=folder / "names.json", model="ViT"),
        read_embeddings(folder / "a.npy", names=names, model="ViT"),
    ]
    for one in found:
        assert one.names == names and one.model == "ViT"
        assert one.embeddings.dtype == np.float32
        assert np.array_equal(one.embeddings, matrix.astype(np.float32))
        assert one.unit == bool((abs(np.linalg.norm(matrix.astype(float), axis=1) - 1) < 0.01).all())
    assert np.array_equal(found[0].of(names[::-1]), matrix[::-1].astype(np.float32))


def test_float32_npy_is_memory_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3, dtype=np.float32))
    found = read_embeddings(tmp_path, names=["a", "b", "c"])
    assert isinstance(found.embeddings, np.memmap) and found.unit
    assert type(found.of(["c"])) is np.ndarray and found.of(["c"]).tolist() == [[0, 0, 1]]


def test_a_name_that_is_not_there_is_told() -> None:
    cached = CachedEmbeddings(["a"], np.ones((1, 2), np.float32), "", False)
    with pytest.raises(DataError, match="1 name: b"):
        cached.of(["a", "b"])


EYE = np.eye(2, dtype=np.float32)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"names": ["a", "b"], "embeddings": EYE.astype(int)}, r"int64 \(2, 2\)"),
        ({"names": ["a", "b"], "embeddings": EYE[0]}, r"float32 \(2,\)"),
        ({"names": ["a", "b"], "embeddings": EYE[:, :0]}, r"float32 \(2, 0\)"),
        ({"names": ["a", "a"], "embeddings": EYE}, "`a` twice"),
        ({"names": ["a"], "embeddings": EYE}, "1 names; expected 2"),
        ({"names": ["a", "b"], "embeddings": EYE * np.array([[1], [np.nan]])}, r"row 1 \(`b`\); found NaN"),
        ({"names": ["a", "b"], "embeddings": EYE + np.array([[np.inf], [1]])}, "row 0"),
        ({"names": ["a", "b"], "embeddings": EYE * np.array([[0], [1]])}, "only zeros"),
        ({"names": ["a", "b"], "embeddings": EYE * np.array([[1e300], [1]])}, "infinity"),
        ({"names": ["a", "b"], "one": EYE, "two": EYE}, "keys names, one, two"),
        ({"embeddings": EYE}, "no names in it"),
        ({"names": np.array([{"a": 1}, None], dtype=object), "embeddings": EYE}, "no pickles"),
    ],
)
def test_npz_files_that_cannot_be_used(tmp_path: Path, content: dict, match: str) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=match):
        read_embeddings(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00", b"\xff" * 40])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_embeddings(tmp_path / name, names=["a"])


def test_paths_that_do_not_lead_to_one_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_embeddings(tmp_path / "a.npz")
    with pytest.raises(DataError, match="expected one npz"):
        read_embeddings(tmp_path)
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(DataError, match="suffix"):
        read_embeddings(tmp_path / "a.csv")
    np.save(tmp_path / "a.npy", EYE)
    (tmp_path / "names.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="a JSON list of texts"):
        read_embeddings(tmp_path / "a.npy", names=tmp_path / "names.json")
    np.save(tmp_path / "b.npy", EYE)
    with pytest.raises(DataError, match=r"a\.npy, b\.npy"):
        read_embeddings(tmp_path)


def test_the_real_text_embeddings(shared_data: Path) -> None:
    folder = shared_data / "image_text" / "clip_vitb32_text_embeddings"
    found = read_embeddings(folder / "lvis_v1_clip_a+cname.npy")
    assert found.embeddings.shape == (1203, 512) and not found.unit
    assert found.names[:2] == ["aerosol_can", "air_conditioner"]
    assert any("lvis_names.json" in rule for rule in found.rules)
