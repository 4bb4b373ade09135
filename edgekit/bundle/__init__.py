"""The bundle format: manifest, hashes, signature, golden vectors. docs/bundle.md is the specification."""

from edgekit.bundle.keys import TrustedKey
from edgekit.bundle.reader import Bundle, open_bundle, problems, read_manifest
from edgekit.bundle.records import FileEntry, Manifest, ModelFile, StageRecord, TaskSpec
from edgekit.bundle.tensors import read_tensors, write_tensors
from edgekit.bundle.writer import write

__all__ = [
    "Bundle",
    "FileEntry",
    "Manifest",
    "ModelFile",
    "StageRecord",
    "TaskSpec",
    "TrustedKey",
    "open_bundle",
    "problems",
    "read_manifest",
    "read_tensors",
    "write",
    "write_tensors",
]
