"""Padding is one rule: what SigLIP was trained with is what training, every file and the device fill a text with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.distill.clip import folder as folders
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.huggingface import import_dual
from edgekit.distill.clip.mobileclip import mobileclip_s0_config
from edgekit.evaluate.torch_dual import TorchDualPredictor
from edgekit.export import export_onnx
from edgekit.export.litert import export_litert
from edgekit.export.openvino import export_openvino
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from tests.distill.clip.helpers import LENGTH, WORDS
from tests.export import duals
from tests.needs import needs

PAD = 1  # SigLIP's, which is also its end token; here the end token is another, so that a mistake shows
TEXTS = ["a dog runs", "two children play with ball in snow", "grass"]


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A SiglipModel imported and saved; and what transformers gives for TEXTS, padded to the context, unit length."""
    from transformers import SiglipConfig, SiglipModel

    shape = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**shape, "vocab_size": WORDS, "max_position_embeddings": LENGTH, "projection_size": 48, "pad_token_id": PAD}
    torch.manual_seed(0)
    theirs = SiglipModel(SiglipConfig(text_config=text, vision_config={**shape, "image_size": 32, "patch_size": 8}))
    work = tmp_path_factory.mktemp("siglip")
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    theirs.eval().save_pretrained(work / "hf")
    words = duals.tokenizer()
    ids = torch.full((len(TEXTS), LENGTH), PAD)
    for row, one in enumerate(TEXTS):
        found = words.encode(one).ids
        ids[row, : len(found)] = torch.tensor(found)
    with torch.inference_mode():
        rows = theirs(input_ids=ids, pixel_values=torch.zeros(1, 3, 32, 32)).text_embeds.numpy()
    folders.save(import_dual(str(work / "hf")), words, work / "torch")
    return work, rows


def test_the_rule_survives_the_folder(siglip: tuple[Path, np.ndarray]) -> None:
    work, expected = siglip
    model, words = folders.load(work / "torch")
    read = folders.reader(words, model.config)
    assert read.pad_id == PAD != read.end_id
    ids, mask = read(TEXTS)
    with torch.inference_mode():
        found = model.encode_texts(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    picture = np.zeros((32, 32, 3), np.uint8)
    for text, row in zip(TEXTS, expected, strict=True):
        answered = TorchDualPredictor(work / "torch").answer((picture, text))[1].numpy()
        np.testing.assert_allclose(answered[0], row, atol=1e-5)


def test_every_file_fills_texts_as_the_model_was_trained(siglip: tuple[Path, np.ndarray]) -> None:
    work, expected = siglip
    given = duals.examples(2)
    export_onnx(work / "torch", work / "onnx", ExportConfig(), given)
    made = [work / "onnx"]
    if pytest.importorskip("openvino", reason="needs the package openvino: pip install edgekit[openvino]"):
        export_openvino(work / "torch", work / "onnx", work / "ir", ExportConfig(), given)
        made.append(work / "ir")
    for folder in made:
        spec = artifact.read_spec(folder)
        assert (spec.pad_id, spec.fixed_length, spec.max_length) == (PAD, True, LENGTH)
        model = artifact.load(folder, 1)
        np.testing.assert_allclose(model.embed_texts(TEXTS), expected, atol=1e-4)
        np.testing.assert_allclose(model.embed_texts(TEXTS[2]), expected[2:], atol=1e-4)


@pytest.mark.slow
def test_the_tflite_file_too(siglip: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    needs("litert_torch", "ai_edge_litert")
    work, expected = siglip
    export_litert(work / "torch", tmp_path, ExportConfig(), [8], duals.examples(2))
    np.testing.assert_allclose(artifact.load(tmp_path, 1).embed_texts(TEXTS), expected, atol=1e-4)


def test_what_pads_otherwise_says_so() -> None:
    assert mobileclip_s0_config().text.pad_id == 0, "open_clip's tokenizer fills with 0, and this tower reads it"
    own = duals.dual("vit", "mct")
    assert folders.reader(duals.tokenizer(), own.config).pad_id == WORDS - 1, "the end token, unless stated"
    stated = DualEncoder(type(own.config).from_dict({**own.config.to_dict(), "text": {
        **own.config.to_dict()["text"], "pad_id": 5}}))  # fmt: skip
    assert folders.reader(duals.tokenizer(), stated.config).pad_id == 5
