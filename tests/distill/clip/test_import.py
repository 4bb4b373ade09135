"""Checkpoints of others, in our towers, answer as they did in theirs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from edgekit.distill.clip import efficientnet
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.efficientnet import LITE0_PACKAGE, load_lite0
from edgekit.distill.clip.huggingface import import_dual
from edgekit.distill.clip.mobileclip import from_state, load_mobileclip_s0, mobileclip_s0_config
from edgekit.distill.clip.openclip import import_open_clip, load_open_clip
from edgekit.distill.clip.reparam import reparameterize
from edgekit.distill.clip.teachers import open_teacher
from edgekit.errors import MissingDependencyError, ModelError
from tests.distill.clip import published
from tests.distill.clip.helpers import LENGTH, WORDS, ids, pictures

VISION = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
# transformers draws every bias and norm at its neutral value; a parity test needs others
SIZES = {"image_size": 36, "patch_size": 8}
IMAGENETTE = {  # folder to ImageNet's class number
    **{"n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497},
    **{"n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701},
}


def _save(model: Any, folder: Path) -> Path:
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    model.eval().save_pretrained(folder)
    return folder


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel

    text = {**VISION, "vocab_size": WORDS, "max_position_embeddings": LENGTH, "eos_token_id": WORDS - 1}
    config = CLIPConfig(text_config=text, vision_config={**VISION, **SIZES}, projection_dim=24)
    return _save(CLIPModel(config), tmp_path / "clip")


@pytest.mark.parametrize("eos", [WORDS - 1, 2])
def test_clip_gives_what_transformers_gives(clip_folder: Path, eos: int) -> None:
    from transformers import CLIPModel

    path = clip_folder / "config.json"
    raw = json.loads(path.read_text())
    raw["text_config"]["eos_token_id"] = eos  # 2 is how old configs say: the highest id
    path.write_text(json.dumps(raw))
    theirs, ours = CLIPModel.from_pretrained(clip_folder).eval(), import_dual(str(clip_folder))
    rows, x = ids(), pictures(3, 36)
    with torch.inference_mode():
        text, image = theirs.get_text_features(input_ids=rows), theirs.get_image_features(pixel_values=x)
        assert (ours.text(rows) - text).abs().max() < 1e-5 and text.abs().max() > 0.1
        assert (ours.image(x) - image).abs().max() < 1e-5 and image.abs().max() > 0.1
        expected = theirs(input_ids=rows, pixel_values=x).logits_per_image
        torch.testing.assert_close(ours.logits(x, rows), expected, atol=1e-4, rtol=1e-5)
    assert ours.config.resize == "crop" and ours.config.interpolation == "bicubic"


def test_siglip_gives_what_transformers_gives(tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    text = {**VISION, "vocab_size": WORDS, "max_position_embeddings": LENGTH, "projection_size": 48}
    theirs = SiglipModel(SiglipConfig(text_config=text, vision_config={**VISION, **SIZES}))
    folder = _save(theirs, tmp_path / "siglip")
    (folder / "preprocessor_config.json").write_text(json.dumps({"resample": 2, "image_mean": [0.4, 0.5, 0.6]}))
    ours = import_dual(str(folder))
    rows, x = ids(), pictures(3, 36)
    with torch.inference_mode():
        answer = theirs(input_ids=rows, pixel_values=x)
        assert (ours.encode_texts(rows) - answer.text_embeds).abs().max() < 1e-5
        assert (ours.encode_images(x) - answer.image_embeds).abs().max() < 1e-5
        torch.testing.assert_close(ours.logits(x, rows), answer.logits_per_image, atol=1e-4, rtol=1e-5)
    config = ours.config
    assert (config.mean, config.std) == ((0.4, 0.5, 0.6), (0.5, 0.5, 0.5))
    assert config.resize == "squash" and config.interpolation == "bilinear"


def test_what_is_imported_saves_and_reloads(clip_folder: Path, tmp_path: Path) -> None:
    ours = import_dual(str(clip_folder))
    ours.save(tmp_path / "out")
    again = DualEncoder.load(tmp_path / "out")
    with torch.inference_mode():
        assert torch.equal(again.text(ids()), ours.text(ids()))


def test_a_folder_that_cannot_be_imported_is_named(clip_folder: Path) -> None:
    weights = clip_folder / "model.safetensors"
    state = load_file(weights)
    save_file({k: v for k, v in state.items() if k != "visual_projection.weight"}, weights)
    with pytest.raises(ModelError, match=r"no tensor visual_projection\.weight"):
        import_dual(str(clip_folder))
    save_file({**state, "visual_projection.weight": torch.zeros(3, 48)}, weights)
    with pytest.raises(ModelError, match="shapes of its config"):
        import_dual(str(clip_folder))
    (clip_folder / "preprocessor_config.json").write_text('{"resample": 0}')
    with pytest.raises(ModelError, match="resample"):
        import_dual(str(clip_folder))
    (clip_folder / "config.json").write_text('{"model_type": "align"}')
    with pytest.raises(ModelError, match=r"model_type.*align"):
        import_dual(str(clip_folder))


@pytest.mark.slow
def test_mobileclip_s0_loads_by_its_published_names(tmp_path: Path) -> None:
    state = published.state()
    model = from_state(state)
    assert len(state) == len(model.state_dict()) == 893
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 53.8
    x = pictures(1, 256)
    with torch.inference_mode():
        features = model.image.features(x)
        expected = features @ state["image_encoder.model.head.proj"]
        torch.testing.assert_close(model.image(x), expected, atol=1e-6, rtol=1e-5)
    name = "image_encoder.model.network.4.9.convffn.fc2.weight"
    assert torch.equal(model.image.stages[2].blocks[9].mlp.down.weight, state[name])
    name = "text_encoder.transformer.4.pre_norm_ffn.4.weight"
    assert torch.equal(model.text.layers[3].down.weight, state[name])
    assert mobileclip_s0_config().text.fixed_length


def test_a_checkpoint_that_is_not_mobileclip_s0_is_named(tmp_path: Path) -> None:
    state = {name: torch.zeros(()).expand(shape) for name, shape in published.shapes().items()}
    path = tmp_path / "s0.pt"
    torch.save({k: v for k, v in state.items() if k != "text_encoder.projection_layer"}, path)
    with pytest.raises(ModelError, match=r"s0\.pt.*nothing for text\.projection\.weight"):
        load_mobileclip_s0(path)
    with pytest.raises(ModelError, match=r"visual\.conv1"):
        from_state({**state, "visual.conv1": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"expected shape \(512, 512\)"):
        from_state({**state, "text_encoder.projection_layer": torch.zeros(512, 3)})


def _lite0_package() -> Path:
    try:
        importlib.metadata.distribution(LITE0_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the package {LITE0_PACKAGE}")
    return efficientnet.lite0_weights()


@pytest.mark.slow
def test_lite0_with_its_own_weights_names_what_is_on_real_photographs(shared_data: Path) -> None:
    """One of ImageNet's 1,000 classes for forty pictures of imagenette (on all 400: 81 %)."""
    raw = torch.load(_lite0_package(), weights_only=True)
    tower = load_lite0()
    merged = reparameterize(tower)
    right = total = 0
    for folder, label in IMAGENETTE.items():
        files = sorted((shared_data / "image_text" / "imagenette" / "val" / folder).iterdir())[:4]
        x = torch.stack([_picture(path) for path in files])
        with torch.inference_mode():
            features = tower.features(x)
            torch.testing.assert_close(merged.features(x), features, atol=1e-4, rtol=1e-4)
            scores = features @ raw["_fc.weight"].T + raw["_fc.bias"]
        right, total = right + int((scores.argmax(-1) == label).sum()), total + len(files)
    assert right / total >= 0.6


def _picture(path: Path) -> torch.Tensor:
    picture = Image.open(path).convert("RGB")
    scale = 224 / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    return torch.from_numpy((pixels - efficientnet.LITE0_MEAN[0]) / efficientnet.LITE0_STD[0]).permute(2, 0, 1)


def test_lite0_without_its_package_or_with_another_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficientnet, "LITE0_PACKAGE", "efficientnet-lite0-that-nobody-has")
    with pytest.raises(MissingDependencyError, match="pip install"):
        load_lite0()
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="sha256"):
        load_lite0(tmp_path / "other.pth")


def module(folder: Path, name: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package ``name`` of ``body``, found before any other."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(body)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("error", ["ImportError('No module named timm')", "RuntimeError('torchvision::nms')"])
def test_without_open_clip_the_adapter_says_what_to_install(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, "open_clip", f"raise {error}", monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"open_clip.*edgekit\[clip\]"):
        load_open_clip("ViT-B-32")


@pytest.mark.slow
def test_a_torchvision_of_another_build_does_not_stop_an_import(tmp_path: Path) -> None:
    looks = (
        "import torch\n"
        "for name in ('nms', 'qnms'):\n"
        "    if not hasattr(torch.ops.torchvision, name):\n"
        "        raise RuntimeError(f'operator torchvision::{name} does not exist')\n"
        "mark = 7\n"
    )
    (tmp_path / "torchvision.py").write_text(looks)
    told = "from edgekit.distill.torchvision import repair; repair(); repair(); import torchvision as t; print(t.mark)"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[3]}"}
    done = subprocess.run([sys.executable, "-c", told], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr


def test_an_open_clip_model_gives_unit_embeddings() -> None:
    try:
        open_clip = import_open_clip()
    except MissingDependencyError as error:
        pytest.skip(f"open_clip cannot be imported: {error}")
    teacher = load_open_clip("ViT-S-32")
    size, length = teacher.config.image_size, teacher.config.context_length
    rows = open_clip.get_tokenizer("ViT-S-32")(["a red circle", "two cats"])
    x = pictures(2, size)
    with torch.inference_mode():
        texts, images = teacher.encode_texts(rows), teacher.encode_images(x)
    assert rows.shape == (2, length) and images.shape == texts.shape == (2, teacher.config.embed_dim)
    torch.testing.assert_close(images.norm(dim=-1), torch.ones(2))
    with torch.inference_mode():
        torch.testing.assert_close(images, teacher.model.encode_image(x, normalize=True))
    with pytest.raises(ModelError, match="ViT-Z-1"):
        load_open_clip("ViT-Z-1")


def test_an_open_clip_model_teaches(tmp_path: Path) -> None:
    try:
        open_clip = import_open_clip()
    except MissingDependencyError as error:
        pytest.skip(f"open_clip cannot be imported: {error}")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-S-32").state_dict(), tmp_path / "weights.pt")
    teacher = open_teacher(f"open_clip:ViT-S-32/{tmp_path / 'weights.pt'}")
    again = open_teacher(f"open_clip:ViT-S-32/{tmp_path / 'weights.pt'}")
    assert teacher.sha256 == again.sha256
    pictures_ = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    images, texts = teacher.embed_images(pictures_), teacher.embed_texts(["a red circle", "two cats"])
    assert images.shape == texts.shape and images.shape[0] == 2
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(images, again.embed_images(pictures_))
