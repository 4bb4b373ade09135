"""Dual encoders: embeddings, zero-shot, choosing, searching; with a text tower, a prompt bank, or a BERT for texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.errors import BundleError, EdgekitWarning, EngineError, InputError
from edgekit.runtimes.context import ClipTextPipeline, ClipTokenizer
from edgekit.runtimes.dual import DualModel, DualSpec
from edgekit.runtimes.index import Index
from edgekit.runtimes.prompts import PromptBank, make_bank
from edgekit.runtimes.vision.pipeline import ImagePipeline
from tests.needs import needs
from tests.runtimes import duals
from tests.runtimes.duals import COLOURS, DIM, picture, vector

NAMES = list(COLOURS)
PICTURES = [picture(rgb) for rgb in COLOURS.values()]
TEMPLATES = ["a photo of a {}.", "it is {}"]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> DualModel:
    return duals.model(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def without_text(colours: DualModel) -> DualModel:
    """With a prompt bank in its place."""
    bank = make_bank(NAMES, TEMPLATES, colours.embed_texts, colours.digest)
    return DualModel(colours.images, None, colours.spec, bank, colours.digest)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("with_mask", [True, False], ids=["mask", "ids alone"])
def test_pictures_and_texts_meet(name: str, with_mask: bool, tmp_path: Path) -> None:
    needs(name, extra=name)
    model = duals.model(tmp_path, name, with_mask)
    images, texts = model.embed_images(PICTURES), model.embed_texts([f"a photo of a {name} thing" for name in NAMES])
    assert images.shape == texts.shape == (6, DIM)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)
    wanted = np.stack([vector(rgb) / np.linalg.norm(vector(rgb)) for rgb in COLOURS.values()])
    np.testing.assert_allclose(images, wanted, atol=1e-3)
    assert model.zero_shot(PICTURES, NAMES).labels == NAMES


def test_embeddings_do_not_depend_on_the_form_or_the_batch(colours: DualModel, tmp_path: Path) -> None:
    together = colours.embed_images(PICTURES * 3)
    alone = np.concatenate([colours.embed_images(one) for one in PICTURES])
    np.testing.assert_allclose(together, np.concatenate([alone] * 3), atol=1e-6)
    Image.fromarray(PICTURES[0]).save(tmp_path / "red.png")
    turned = [one[:, :, ::-1] for one in PICTURES]
    np.testing.assert_allclose(colours.embed_images(turned, bgr=True), alone, atol=1e-6)
    for one in (tmp_path / "red.png", str(tmp_path / "red.png"), Image.fromarray(PICTURES[0])):
        np.testing.assert_allclose(colours.embed_images(one), alone[:1], atol=1e-6)
    pixels = colours.images.preprocessor(PICTURES)
    np.testing.assert_allclose(colours.embed_pixels(pixels), alone, atol=1e-6)
    assert colours.embed_images([]).shape == colours.embed_texts([]).shape == (0, DIM)


def test_zero_shot_in_numbers(colours: DualModel) -> None:
    found = colours.zero_shot(PICTURES[:2], NAMES, TEMPLATES, top_k=3)
    prompts = [[template.replace("{}", name) for template in TEMPLATES] for name in NAMES]
    rows = np.stack([colours.embed_texts(texts).mean(0) for texts in prompts])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = colours.embed_images(PICTURES[:2]) @ rows.T
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)
    raised = np.exp(10.0 * cosines.astype(np.float64))
    np.testing.assert_allclose(found.scores, raised / raised.sum(1, keepdims=True), atol=1e-5)
    assert len(found) == 2 and [len(one) for one in found] == [3, 3]
    best = found[0][0]
    assert (best.name, best.place) == ("red", 0)
    assert best.score == pytest.approx(found.scores[0, 0]) and best.cosine == pytest.approx(found.cosines[0, 0])
    assert [match.score for match in found[0]] == sorted((match.score for match in found[0]), reverse=True)
    assert len(found.top(99)[0]) == 6
    assert found[-1][0].name == "green"
    with pytest.raises(IndexError):
        found[2]


def test_equal_labels_keep_their_order(colours: DualModel) -> None:
    found = colours.zero_shot(PICTURES[0], ["RED", "red", " red"], ["{}"])
    assert [match.name for match in found[0]] == ["RED", "red", " red"]


def test_scores_are_calibrated_as_the_spec_says() -> None:
    cosines = np.array([[0.3, 0.2, -0.1]], np.float32)
    sharp, soft = DualSpec(100.0).scores(cosines), DualSpec(100.0, temperature=20.0).scores(cosines)
    np.testing.assert_allclose(sharp, [[0.9999546, 4.5398e-05, 4.2482e-18]], rtol=1e-4)
    np.testing.assert_allclose(soft, np.exp(5 * cosines) / np.exp(5 * cosines).sum(), rtol=1e-5)
    sigmoid = DualSpec(117.3, -12.9).scores(cosines)
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-(117.3 * cosines.astype(np.float64) - 12.9))), rtol=1e-4)
    extreme = DualSpec(1e6, 0.0).scores(np.array([[-1, 0, 1]], np.float32))
    np.testing.assert_array_equal(extreme, [[0, 0.5, 1]])
    assert sigmoid.dtype == soft.dtype == np.float32


@settings(deadline=None)
@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=9),
    st.floats(0.01, 1000),
    st.one_of(st.none(), st.floats(-50, 50)),
    st.floats(0.01, 100),
)
def test_scores_are_probabilities_in_the_order_of_cosines(
    row: list[float], scale: float, bias: float | None, temperature: float
) -> None:
    cosines = np.array([row], np.float32)
    scores = DualSpec(scale, bias, temperature).scores(cosines)
    assert scores.dtype == np.float32 and (scores >= 0).all() and (scores <= 1 + 1e-6).all()
    order = np.argsort(cosines[0], kind="stable")
    assert (np.diff(scores[0][order]) >= -1e-6).all()
    if bias is None:
        assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_labels_are_embedded_once(colours: DualModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    outputs = colours.text.outputs
    monkeypatch.setattr(colours.text, "outputs", lambda texts: calls.append(len(texts)) or outputs(texts))
    for _ in range(3):
        colours.zero_shot(PICTURES[0], ["red", "blue"], ["one {}"])
    assert calls == [2]
    for number in range(40):
        colours.zero_shot(PICTURES[0], [f"label {number}"], ["one {}"])
    assert len(colours._sets) <= 16


def test_a_prompt_bank_replaces_the_text_tower(colours: DualModel, without_text: DualModel, tmp_path: Path) -> None:
    expected = colours.zero_shot(PICTURES, NAMES, TEMPLATES)
    found = without_text.zero_shot(PICTURES)
    np.testing.assert_allclose(found.cosines, expected.cosines, atol=1e-6)
    assert found.names == NAMES and found.labels == NAMES
    assert without_text.zero_shot(PICTURES[2], ["green", "blue"]).labels == ["blue"]
    assert without_text.zero_shot(PICTURES[2], ["green", "blue"], TEMPLATES).labels == ["blue"]
    assert without_text.choose(PICTURES[3], ["red", "yellow"])[0].name == "yellow"
    without_text.bank.save(tmp_path / "bank.safetensors")
    again = PromptBank.load(tmp_path / "bank.safetensors")
    assert (again.names, again.templates, again.model) == (NAMES, TEMPLATES, colours.digest)
    np.testing.assert_array_equal(again.embeddings, without_text.bank.embeddings)


def test_without_a_text_tower_other_texts_are_told_what_there_is(colours: DualModel, without_text: DualModel) -> None:
    held = r"no text tower, and a prompt bank of 6: 'red', 'green', 'blue', 'yellow', 'white', \.\.\."
    for ask in (
        lambda: without_text.zero_shot(PICTURES[0], ["red", "a cat"]),
        lambda: without_text.embed_texts("a cat"),
        lambda: without_text.choose(PICTURES[0], ["red", "a cat"]),
        lambda: without_text.search("a cat", Index(DIM, colours.digest)),
    ):
        with pytest.raises(InputError, match=f"text 'a cat'; found {held}; .*Pack the bundle with its text tower"):
            ask()
    with pytest.raises(InputError, match=rf"templates \['it is \{{\}}'\]; found {held}"):
        without_text.zero_shot(PICTURES[0], ["red"], "it is {}")
    bare = DualModel(colours.images, None)
    with pytest.raises(InputError, match="found neither text tower nor prompt bank"):
        bare.zero_shot(PICTURES[0], ["red"])
    with pytest.raises(InputError, match="labels; found none; expected some"):
        bare.zero_shot(PICTURES[0])


def test_choosing_captions_and_answers(colours: DualModel) -> None:
    captions = ["a photo of a blue thing", "a photo of a red thing", "what colour"]
    found = colours.choose(PICTURES[0], captions)
    assert [found[0].name, found[0].place, len(found)] == [captions[1], 1, 3]
    assert sum(match.score for match in found) == pytest.approx(1, abs=1e-5)
    answers = colours.choose(PICTURES[1][:, :, ::-1], NAMES, question="what colour is it?", bgr=True)
    assert answers[0].name == "green"
    other = colours.choose(PICTURES[1], NAMES, "what {} colour", "{question} it is {}")
    rows = colours.embed_texts([f"what {{}} colour it is {name}" for name in NAMES])
    expected = colours.embed_images(PICTURES[1]) @ rows.T
    assert other[0].cosine == pytest.approx(expected.max(), abs=1e-6)
    with pytest.raises(InputError, match="question; found none"):
        colours.choose(PICTURES[0], NAMES, template="{question} {}")
    with pytest.raises(InputError, match="image; found list; expected one picture"):
        colours.choose(PICTURES, NAMES)


def test_searching_both_ways(colours: DualModel, without_text: DualModel, tmp_path: Path) -> None:
    pictures = Index(DIM, colours.digest)
    pictures.add([f"{name}.png" for name in NAMES], colours.embed_images(PICTURES))
    hits = colours.search("a photo of a white thing", pictures, k=2)
    assert len(hits) == 2 and hits[0].name == "white.png"
    assert without_text.search("white", pictures, k=1)[0].name == "white.png"  # a name of the bank
    Image.fromarray(PICTURES[4]).save(tmp_path / "x.png")
    assert colours.search(tmp_path / "x.png", pictures, k=1)[0].name == "white.png"
    texts = Index(DIM, colours.digest, "text")
    texts.add(NAMES, colours.embed_texts(NAMES))
    for name, one in zip(NAMES, PICTURES, strict=True):
        (hit,) = colours.search(one, texts, k=1)
        assert hit.name == name and hit.cosine > 0.99
        assert colours.search(one[:, :, ::-1], texts, k=1, bgr=True)[0].name == name
    with pytest.raises(InputError, match="found one made by model abc; expected ffffffffffff, the model that asks"):
        colours.search("red", Index(DIM, "abc"))
    with pytest.raises(InputError, match="query; found list"):
        colours.search(["red", "blue"], texts)


def test_a_bert_may_be_the_text_tower(colours: DualModel, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *NAMES, "a", "photo", "of", "##s", "."]
    words = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tower = duals.engine(
        duals.text_tower(tmp_path / "bert.onnx", duals.table(words), True), "onnxruntime", "input_ids", "attention_mask"
    )
    text = ClipTextPipeline.of_engine(ClipTokenizer(words, 16, pad_id=0, fixed_length=False), tower)
    assert text.prepare(["red", "a photo of red"])[0].shape == (2, 6)  # as long as the longest
    assert ClipTextPipeline(text.tokenizer, tower.run, length_step=8).prepare(["red"])[0].shape == (1, 8)
    model = DualModel(colours.images, text, colours.spec)
    assert model.zero_shot(PICTURES, NAMES).labels == NAMES
    with pytest.warns(EdgekitWarning, match="more than 16 tokens"):
        assert model.zero_shot(PICTURES[2], ["green " * 30, "blue " * 30]).labels == ["blue " * 30]  # cut


def test_what_cannot_be_used_is_told(colours: DualModel) -> None:
    one = PICTURES[0]
    for ask, message in (
        (lambda: colours.zero_shot(one, []), "labels; found none"),
        (lambda: colours.zero_shot(one, ["red", "red"]), "labels; found 'red' twice"),
        (lambda: colours.zero_shot(one, ["red", 7]), "input number 1; found int 7"),
        (lambda: colours.zero_shot(one, ["red"], ["a photo"]), "templates; found 'a photo'; expected a text with {}"),
        (lambda: colours.zero_shot(one, ["red"], []), "templates; found none"),
        (lambda: colours.zero_shot(one, ["red"], top_k=0), "top_k; found 0"),
        (lambda: colours.zero_shot("absent.png", ["red"]), r"absent\.png; found no such file"),
        (lambda: colours.choose(one, ["red", "red"]), "candidates; found 'red' twice"),
        (lambda: DualSpec(0.0), "logit_scale; found 0.0"),
        (lambda: DualSpec(temperature=float("nan")), "temperature; found nan"),
        (lambda: DualSpec(logit_bias=float("inf")), "logit_bias; found inf"),
        (lambda: DualSpec(templates=["x"]), "templates; found 'x'"),
    ):
        with pytest.raises(InputError, match=message):
            ask()
    for other in (DualSpec(), DualSpec(117.0, -12.5, 1.5, ["{}", "the {}"])):
        assert DualSpec.from_dict(other.to_dict()) == other


def test_towers_that_do_not_fit_or_fail(colours: DualModel) -> None:
    broken = DualModel(ImagePipeline(colours.images.preprocessor, lambda v: np.full((len(v), DIM), np.nan)), None)
    with pytest.raises(EngineError, match="image embeddings; found NaN"):
        broken.embed_images(PICTURES)
    narrow = DualModel(ImagePipeline(colours.images.preprocessor, lambda v: v.mean((2, 3))), colours.text)
    with pytest.raises(EngineError, match=f"found 3 numbers for a picture, {DIM} for a text"):
        narrow.zero_shot(PICTURES, NAMES)
    bank = PromptBank(["a"], np.eye(1, DIM, dtype=np.float32), model="abc")
    with pytest.raises(InputError, match="prompt bank; found one of model abc; expected def"):
        DualModel(colours.images, None, bank=bank, digest="def")


ROW = np.eye(1, DIM, dtype=np.float32)


@pytest.mark.parametrize(
    ("names", "rows", "templates", "message"),
    [
        ([], ROW[:0], ["{}"], "names; found none"),
        (["a", "a"], np.repeat(ROW, 2, 0), ["{}"], "'a' twice"),
        (["a", "b"], ROW, ["{}"], r"expected float32 \(2, D\)"),
        (["a"], ROW.astype(np.float64), ["{}"], "float64"),
        (["a"], ROW * 2, ["{}"], "expected unit length"),
        (["a"], ROW * np.nan, ["{}"], "expected unit length"),
        (["a"], ROW, ["a"], "templates"),
    ],
)
def test_banks_that_cannot_be(names: list[str], rows: np.ndarray, templates: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptBank(names, rows, templates)


def test_damaged_banks(without_text: DualModel, tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    without_text.bank.save(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"red"', b'"blu"'))
    assert PromptBank.load(path).names[0] == "blu"
    for damage in (data[:-3], data.replace(b'"red"', b"'red'"), data.replace(b'"names"', b'"nmaes"'), b"", b"\0" * 64):
        path.write_bytes(damage)
        with pytest.raises(BundleError, match=r"bank\.safetensors"):
            PromptBank.load(path)
    path.write_bytes(data.replace(b'"green"', b'"black"').replace(b'"white"', b'"black"'))
    with pytest.raises(BundleError, match="'black' twice"):
        PromptBank.load(path)
    with pytest.raises(InputError, match="No such file"):
        without_text.bank.save(tmp_path / "absent" / "bank.safetensors")


DEVICE = """
import sys
BLOCKED = {"torch", "transformers", "onnx", "timm", "open_clip", "torchvision", "scipy", "pandas", "pydantic", "yaml"}
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Wall())
from pathlib import Path
from edgekit.runtimes import engines
from edgekit.runtimes.context import ClipTextPipeline, ClipTokenizer
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.vision import ImagePreprocessor, ImageSpec
from edgekit.runtimes.vision.pipeline import ImagePipeline
folder = Path(sys.argv[1])
image = engines.create("onnxruntime", folder / "image.onnx", 1, ("pixel_values",), "")
text = engines.create("onnxruntime", folder / "text.onnx", 1, ("input_ids", "attention_mask"), "")
model = DualModel(
    ImagePipeline.of_engine(ImagePreprocessor(ImageSpec(16)), image),
    ClipTextPipeline.of_engine(ClipTokenizer(folder / "tokenizer.json"), text),
)
print(*model.zero_shot(folder / "blue.png", ["red", "blue"]).labels)
"""


def test_a_device_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    duals.model(tmp_path)
    duals.tokenizer().save(str(tmp_path / "tokenizer.json"))
    Image.fromarray(picture(COLOURS["blue"])).save(tmp_path / "blue.png")
    done = subprocess.run([sys.executable, "-c", DEVICE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["blue"]
