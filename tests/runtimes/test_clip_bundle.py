"""Bundles of task clip on the device: loaded, chosen, proven and passed over as those of text models are."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit
from edgekit.bundle import Manifest, open_bundle, read_tensors, write, write_tensors
from edgekit.bundle.manifest import dump, parse
from edgekit.errors import BundleError, EdgekitError, EdgekitWarning, InputError, VerificationError
from edgekit.runtimes import artifact, calibrate
from edgekit.runtimes.check import golden_of
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.golden import make
from edgekit.runtimes.index import Index
from edgekit.runtimes.prompts import NAME
from tests import clip_bundles
from tests.clip_bundles import CONTEXT, DIM, EXAMPLES, LABELS, ONNX, SIZE, TEXTS, XML
from tests.needs import needs
from tests.runtimes.test_device import BLOCKED, run


@pytest.fixture(scope="module")
def two_engines(clip_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("openvino")
    root = tmp_path_factory.mktemp("two")
    made = clip_bundles.openvino_artifact(root / "openvino", clip_onnx)
    return clip_bundles.bundle(root / "two.edge", {ONNX: clip_onnx, XML: made})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that no other test has seen."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rewritten(source: Path, target: Path, changed: dict[str, bytes], **fields: Any) -> Path:
    """A copy with other ``fields`` of the manifest and other bytes, with right hashes."""
    bundle = open_bundle(source)
    files: dict[str, Path | bytes] = {one.path: source / one.path for one in bundle.manifest.files}
    write(target, Manifest.from_dict({**bundle.manifest.to_dict(), **fields}), files | changed)
    return target


def test_a_bundle_answers_as_its_towers_do_in_torch(clip_bundle: Path) -> None:
    import torch

    model = edgekit.load(clip_bundle, threads=1)
    assert isinstance(model, DualModel)
    assert (model.engine, model.file, model.precision, model.threads) == ("onnxruntime", ONNX, "fp32", 1)
    assert model.engine_version and model.spec.pictures is not None and model.spec.pictures.size == SIZE
    assert {name: one.path for name, one in model.towers.items()} == {"image": ONNX, "text": "models/fp32.text.onnx"}
    theirs, _ = clip_bundles.encoder()
    for example in EXAMPLES:
        image, text = model.run(example)
        pixels = torch.from_numpy(model.images.preprocessor(example[0]))
        assert model.text is not None
        ids = torch.from_numpy(model.text.tokenizer([example[1]], quiet=True)[0])
        with torch.inference_mode():
            np.testing.assert_allclose(image, theirs.encode_images(pixels), atol=1e-5)
            np.testing.assert_allclose(text, theirs.encode_texts(ids), atol=1e-5)
        prepared = model.prepare(example)
        for ours, again in zip((image, text), model.finish(prepared, model.forward(prepared)), strict=True):
            np.testing.assert_array_equal(ours, again)
    together = model.embed_texts(TEXTS[:5]), model.embed_images([picture for picture, _ in EXAMPLES])
    assert together[0].shape == (5, DIM) and together[1].shape == (6, DIM)
    np.testing.assert_allclose(together[1][2], model.run(EXAMPLES[2])[0][0], atol=1e-5)


def test_a_long_caption_is_cut_with_one_warning_that_the_proof_does_not_spend(clip_bundle: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = edgekit.load(clip_bundle)
        assert edgekit.verify(clip_bundle).ok
        model.run((EXAMPLES[0][0], "stripes " * 50))  # timed ones are quiet
    with pytest.warns(EdgekitWarning, match=f"more than {CONTEXT} tokens") as seen:
        long = model.embed_texts(["stripes " * 50, "stripes " * 60])
    assert len(seen) == 1
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)
    (ids,) = model.token_ids("stripes " * 50)
    assert len(ids) == CONTEXT and ids[-1] == max(ids), "the end token stays"


def test_verify_checks_both_towers(two_engines: Path, tmp_path: Path) -> None:
    report = edgekit.verify(two_engines, threads=1)
    assert report.ok, report
    names = [check.name for check in report.checks if check.name.startswith("outputs")]
    assert names == [f"outputs models/fp32.{tower}.{kind}" for kind in ("onnx", "xml") for tower in ("image", "text")]
    tensors = read_tensors(two_engines / "golden.safetensors")
    tensors["outputs.models/fp32.text.onnx"] *= -1
    path = rewritten(two_engines, tmp_path / "x.edge", {"golden.safetensors": write_tensors(tensors)})
    bad = [check.name for check in edgekit.verify(path, threads=1).checks if not check.ok]
    assert bad == ["outputs models/fp32.text.onnx"]
    with pytest.raises(VerificationError, match=r"golden vectors of models/fp32\.text\.onnx"):
        edgekit.load(path, threads=1, file=ONNX)


def test_both_engines_are_timed_and_the_choice_is_remembered(
    two_engines: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "LIMIT_S", 60.0)  # a busy machine does not start Python within two
    first = edgekit.load(two_engines, threads=1)
    (choice,) = (cache / "choices").iterdir()
    told = json.loads(choice.read_text())
    assert {row["engine"] for row in told["ms"]} <= {"onnxruntime", "openvino"} and told["ms"]
    assert edgekit.load(two_engines, threads=1).file == first.file


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_damaged_tower_lets_the_next_file_serve(two_engines: Path, tmp_path: Path, tower: str) -> None:
    path = tmp_path / "x.edge"
    shutil.copytree(two_engines, path)
    file = path / f"models/fp32.{tower}.onnx"
    file.write_bytes(b"broken" * (file.stat().st_size // 6) + b"." * (file.stat().st_size % 6))
    with pytest.raises(BundleError, match=f"fp32.{tower}.onnx is damaged"):
        edgekit.load(path)
    with pytest.warns(EdgekitWarning, match="openvino serves with models/fp32.image.xml") as seen:
        model = edgekit.load(path, threads=1, check_hashes=False)
    assert len(seen) == 1 and f"fp32.{tower}.onnx" in str(seen[0].message)
    whole = edgekit.load(two_engines, threads=1, file=ONNX)
    for ours, theirs in zip(model.run(EXAMPLES[1]), whole.run(EXAMPLES[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_prompt_bank_stands_for_the_text_tower(clip_bank: Path, clip_bundle: Path) -> None:
    assert not (clip_bank / "tokenizer.json").exists()
    model = edgekit.load(clip_bank, threads=1)
    assert isinstance(model, DualModel)
    whole = edgekit.load(clip_bundle, threads=1)
    ours = model.zero_shot([picture for picture, _ in EXAMPLES])
    theirs = whole.zero_shot([picture for picture, _ in EXAMPLES], LABELS, ["a photo of {}."])
    np.testing.assert_allclose(ours.cosines, theirs.cosines, atol=1e-5)
    assert [one.shape for one in model.run(EXAMPLES[0])] == [(1, DIM), (0, DIM)]
    with pytest.raises(InputError, match="no text tower, and a prompt bank of 3"):
        model.zero_shot(EXAMPLES[0][0], ["a cat", "a dog"])
    checks = {check.name: check.ok for check in edgekit.verify(clip_bank).checks}
    assert all(checks.values()) and f"outputs {ONNX}" in checks and f"file {NAME}" in checks


@pytest.fixture
def pictures_alone(clip_bank: Path, tmp_path: Path) -> Path:
    """A bundle with neither text tower nor prompt bank."""
    opened = open_bundle(clip_bank)
    files: dict[str, Path | bytes] = {
        one.path: clip_bank / one.path for one in opened.manifest.files if one.path != NAME
    }
    write(tmp_path / "alone.edge", opened.manifest, files)
    return tmp_path / "alone.edge"


def test_without_text_and_bank_pictures_are_embedded_and_compared(
    pictures_alone: Path, clip_bundle: Path, tmp_path: Path
) -> None:
    model, whole = edgekit.load(pictures_alone, threads=1, file=ONNX), edgekit.load(clip_bundle, threads=1, file=ONNX)
    assert isinstance(model, DualModel) and (model.text, model.bank) == (None, None) and set(model.towers) == {"image"}
    shown = [picture for picture, _ in EXAMPLES]
    np.testing.assert_allclose(model.embed_images(shown), whole.embed_images(shown), atol=1e-6)
    assert [one.shape for one in model.run(EXAMPLES[0])] == [(1, DIM), (0, DIM)]
    index = Index(DIM, model.digest)
    index.add([str(i) for i in range(len(shown))], model.embed_images(shown))
    assert model.search(shown[2], index, 1)[0].name == "2"
    report = edgekit.verify(pictures_alone, threads=1)
    assert report.ok and not any("prompt" in check.name or "text" in check.name for check in report.checks)
    for ask in (
        lambda: model.embed_texts("a cat"),
        lambda: model.zero_shot(shown, ["a cat", "a dog"]),
        lambda: model.choose(shown[0], ["a cat", "a dog"]),
        lambda: model.search("a cat", index),
    ):
        with pytest.raises(InputError, match=r"text 'a cat'; found neither text tower nor prompt bank.*`prompts`"):
            ask()
    with pytest.raises(InputError, match=r"labels; found none.*no prompt bank"):
        model.zero_shot(shown)


def test_a_bundle_of_pictures_alone_is_replaced_and_known_when_damaged(pictures_alone: Path) -> None:
    manifest = open_bundle(pictures_alone).manifest
    files: dict[str, Path | bytes] = {one.path: (pictures_alone / one.path).read_bytes() for one in manifest.files}
    (pictures_alone / "manifest.json").write_text("{}")
    with pytest.raises(BundleError):
        edgekit.load(pictures_alone)
    with pytest.raises(InputError, match="exists already"):
        write(pictures_alone, manifest, files)
    write(pictures_alone, manifest, files, overwrite=True)
    assert edgekit.verify(pictures_alone, threads=1).ok


def test_indexes_know_the_files_not_their_names(clip_bundle: Path, two_engines: Path, clip_onnx: Path) -> None:
    of_bundle = edgekit.load(clip_bundle, threads=1)
    of_artifact = artifact.load(clip_onnx, 1)
    assert isinstance(of_artifact, DualModel)
    assert of_bundle.digest == of_artifact.digest == edgekit.load(two_engines, threads=1, file=ONNX).digest
    assert of_bundle.digest != edgekit.load(two_engines, threads=1, file=XML).digest


def test_an_artifact_tells_what_a_bundle_holds(clip_onnx: Path, clip_bundle: Path) -> None:
    entry = open_bundle(clip_bundle).manifest.models[0]
    assert artifact.entry(clip_onnx, ONNX) == entry
    assert entry.parts == ["models/fp32.text.onnx"]
    sizes = {one.path: one.bytes for one in open_bundle(clip_bundle).manifest.files}
    assert artifact.size_bytes(clip_onnx) == sizes[ONNX] + sizes["models/fp32.text.onnx"] + sizes["tokenizer.json"]
    assert artifact.read(clip_onnx).files == ("image/model.onnx", "text/model.onnx")


def test_golden_pictures_are_small_and_as_they_were_given(clip_onnx: Path, clip_bundle: Path) -> None:
    golden = golden_of(open_bundle(clip_bundle))
    assert golden is not None
    for (picture, text), (kept, caption) in zip(EXAMPLES, golden.examples, strict=True):
        np.testing.assert_array_equal(kept, picture)
        assert caption == text
    large = np.zeros((900, 1200, 3), np.uint8)
    tensors = read_tensors(make(artifact.load(clip_onnx, 1), [(large, "dull")])["files"]["golden.safetensors"])
    assert tensors["picture.0"].shape == (120, 160, 3)


@pytest.mark.parametrize("bad", ["none", "kind", "shape"])
def test_golden_pictures_that_cannot_be(clip_bundle: Path, tmp_path: Path, bad: str) -> None:
    tensors = read_tensors(clip_bundle / "golden.safetensors")
    picture = tensors.pop("picture.3")
    if bad != "none":
        tensors["picture.3"] = picture.astype(np.float32) if bad == "kind" else picture[..., :2]
    path = rewritten(clip_bundle, tmp_path / "x.edge", {"golden.safetensors": write_tensors(tensors)})
    with pytest.raises(BundleError, match=r"golden\.safetensors: picture\.3"):
        edgekit.load(path)
    assert not edgekit.verify(path).ok


def test_a_clip_bundle_runs_without_the_workstation(clip_bundle: Path) -> None:
    told = run(
        BLOCKED.replace(', "PIL"', "") + "began = set(sys.modules)\n"
        "import edgekit, numpy as np\n"
        "model = edgekit.load(sys.argv[1])\n"
        "assert len(model.zero_shot(np.zeros((9, 9, 3), np.uint8), ['a cat', 'a dog'])) == 1\n"
        "assert edgekit.verify(sys.argv[1]).ok\n"
        "files = {n.partition('.')[0]: getattr(m, '__file__', '') or '' for n, m in sys.modules.items()}\n"
        "third = {n for n, file in files.items() if 'site-packages' in file and n not in began}\n"
        "print(sorted(third - {'edgekit'}))",
        clip_bundle,
    )
    assert set(json.loads(told.replace("'", '"'))) == {"numpy", "tokenizers", "onnxruntime", "PIL"}


def plain(clip_bundle: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((clip_bundle / "manifest.json").read_text())
    return value


@pytest.mark.parametrize(
    ("path", "bad", "named"),
    [
        ("task.pictures", None, "pictures"),
        ("task.pictures", [], "pictures"),
        ("task.pictures.size", 0, "size"),
        ("task.pictures.size", 10**9, "size"),
        ("task.pictures.std", [1.0, 1.0, 0.0], "std"),
        ("task.pictures.mean", [0.5], "mean"),
        ("task.pictures.resize", "stretch", "resize"),
        ("task.similarity", None, "similarity"),
        ("task.similarity.logit_scale", -1.0, "logit_scale"),
        ("task.similarity.temperature", 1e-300, "temperature"),
        ("task.similarity.logit_bias", "x", "logit_bias"),
        ("task.similarity.templates", ["no place"], "templates"),
        ("task.stride", 4, "stride"),
        ("task.fixed_length", 1, "fixed_length"),
        ("models.0.towers", {}, "towers"),
        ("models.0.towers", [], "towers"),
        ("models.0.towers.image", None, "towers: image"),
        ("models.0.towers.image", "models/fp32.image.onnx", "towers: image"),
        ("models.0.towers.image.path", "models/fp32.text.onnx", "towers: image"),
        ("models.0.towers.image.inputs", ["a", "b"], "inputs"),
        ("models.0.towers.text.path", "../../etc/passwd", "towers: text: path"),
        ("models.0.towers.text.path", "tokenizer.json", "towers: text: path"),
        ("models.0.towers.text.path", "models/fp32.image.onnx", "towers: text: path"),
        ("models.0.towers.text.inputs", [], "inputs"),
        ("models.0.towers.text.precision", 8, "precision"),
        ("models.0.parts", ["models/fp32.text.onnx", "models/more.onnx"], "models/more.onnx"),
    ],
)
def test_each_wrong_field_is_named(clip_bundle: Path, path: str, bad: object, named: str) -> None:
    value = plain(clip_bundle)
    at: Any = value
    *way, last = path.split(".")
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[last] = bad
    with pytest.raises(BundleError, match=r"manifest\.json") as caught:
        parse(json.dumps(value).encode())
    assert named in str(caught.value)


def test_towers_are_for_clip_alone(clip_bundle: Path) -> None:
    value = plain(clip_bundle)
    value["task"] = {"task": "embed", "labels": [], "max_length": 16, "stride": 0, "pad_id": 0, "normalize": True}
    with pytest.raises(BundleError, match=r"towers of 'models/fp32\.image\.onnx'"):
        parse(json.dumps(value).encode())


def test_what_a_later_version_adds_is_passed_over(clip_bundle: Path) -> None:
    value = plain(clip_bundle)
    for holder in (value["task"]["pictures"], value["task"]["similarity"], value["models"][0]["towers"]["text"]):
        holder["of_a_later_version"] = [1]
    value["models"][0]["towers"]["audio"] = {"path": "models/a.onnx"}
    found = parse(json.dumps(value).encode())
    assert found.task == open_bundle(clip_bundle).manifest.task
    assert parse(dump(found)) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
FIELDS = ["task.pictures", "task.similarity", "task.fixed_length", "models.0.towers", "models.0.towers.image",
          "models.0.towers.text", "models.0.towers.text.path", "models.0.towers.text.inputs",
          "task.pictures.size", "task.pictures.mean", "task.similarity.logit_scale"]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(FIELDS), JSON)
def test_no_value_of_the_new_fields_does_more_than_be_refused(field: str, bad: Any) -> None:
    value = json.loads(json.dumps(_MANIFEST))
    at: Any = value
    *way, last = field.split(".")
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[last] = bad
    try:
        found = parse(json.dumps(value).encode())
    except EdgekitError:
        return
    for model in found.models:
        for name in ("image", "text"):
            tower = model.tower(name)
            assert tower is None or tower.path in {entry.path for entry in found.files}
    assert parse(dump(found)) == found


_TOWER = {"precision": "fp32", "inputs": ["x"], "output": ""}
_MANIFEST = {
    "schema_version": 1,
    "name": "clip",
    "created": "2026-01-02T03:04:05Z",
    "edgekit_version": "0.1.0",
    "task": {
        **{"task": "clip", "labels": [], "max_length": 16, "stride": 0, "pad_id": 0, "normalize": True},
        **{"pictures": {"size": 32}, "similarity": {"logit_scale": 20.0}, "fixed_length": False},
    },
    "models": [
        {
            **{"path": "a.onnx", "engine": "onnxruntime", "precision": "fp32", "parts": ["b.onnx"]},
            "towers": {"image": {"path": "a.onnx", **_TOWER}, "text": {"path": "b.onnx", **_TOWER}},
        }
    ],
    "files": [{"path": path, "sha256": "a" * 64, "bytes": 1} for path in ("a.onnx", "b.onnx", "tokenizer.json")],
}
