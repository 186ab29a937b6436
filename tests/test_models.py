"""The embedded models: what `load` gives, what it refuses, and that the weights have learned something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import SIX_PHOTOS
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config
from timm.models import VisionTransformer
from timm.models.coat import CoaT
from timm.models.convit import GPSA, MHSA, ConVit
from timm.models.convnext import ConvNeXt
from timm.models.pit import PoolingVisionTransformer
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.twins import GlobalSubSampleAttn, LocallyGroupedAttn, Twins
from torch import Tensor, nn
from torch.nn import functional

import captum_vit
from captum_vit import models
from captum_vit.errors import CaptumViTError
from captum_vit.models.registry import MODELS
from captum_vit.models.training.photos import UNLABELLED

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


TRANSFORMERS = {
    "deit_micro": VisionTransformer,
    "coat_micro": CoaT,
    "convit_micro": ConVit,
    "pit_micro": PoolingVisionTransformer,
    "swin_micro": SwinTransformer,
    "twins_micro": Twins,
}
CONVNETS = {"resnet_micro": ResNet, "convnext_micro": ConvNeXt}
CLASSES = {**TRANSFORMERS, **CONVNETS}


def test_each_available_model_is_of_its_family():
    assert set(models.available()) == set(CLASSES)
    for name in models.available():
        assert captum_vit.adapt(captum_vit.load(name)).family == name.removesuffix("_micro")


@pytest.mark.parametrize("name", models.available())
def test_each_is_a_plain_timm_model_ready_to_use(name):
    model = captum_vit.load(name)
    assert type(model) is CLASSES[name]
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, model.num_classes)


@pytest.mark.parametrize("name", models.available())
def test_each_carries_its_input_size_and_normalization_as_timm_models_do(name):
    model = captum_vit.load(name)
    config = resolve_model_data_config(model)
    assert config["input_size"] == (3, 64, 64)
    assert {key: config[key] for key in IMAGENET} == IMAGENET
    transform = create_transform(**config, is_training=False)
    assert transform(Image.new("RGB", (300, 200), "white")).shape == (3, 64, 64)
    assert model.pretrained_cfg == model.default_cfg
    assert len(model.pretrained_cfg["label_names"]) == model.pretrained_cfg["num_classes"] == model.num_classes
    assert isinstance(model.get_submodule(model.pretrained_cfg["classifier"]), nn.Linear)
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)


@pytest.mark.parametrize("name", models.available())
def test_the_weights_are_those_of_the_file_in_half_precision_and_small(name):
    model, file = captum_vit.load(name), MODELS[name].weights
    stored = load_file(file)
    assert file.stat().st_size <= 2_500_000
    assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {torch.float16}
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(stored[name].to(value.dtype), value) for name, value in model.state_dict().items())
    assert all(bool(value.isfinite().all()) for value in stored.values())


@pytest.mark.parametrize(("names", "most"), [(TRANSFORMERS, 12_000_000), (CONVNETS, 5_000_000)])
def test_all_weights_together_are_small(names, most):
    assert sum(MODELS[name].weights.stat().st_size for name in names) <= most


def test_they_exercise_what_is_particular_to_their_families():
    families = ("coat", "convit", "pit", "swin", "twins")
    coat, convit, pit, swin, twins = (captum_vit.load(f"{family}_micro") for family in families)
    assert len(coat.parallel_blocks) >= 2
    assert coat.parallel_blocks[0].mlp2 is coat.parallel_blocks[0].mlp4
    assert {type(block.attn) for block in convit.blocks} == {GPSA, MHSA}
    assert sum(stage.pool is not None for stage in pit.transformers) == 2
    embedding = pit.patch_embed.conv
    assert embedding.stride < embedding.kernel_size
    assert {type(block.attn) for stage in twins.blocks for block in stage} == {LocallyGroupedAttn, GlobalSubSampleAttn}
    assert len(swin.layers) >= 2
    assert {any(block.shift_size) for stage in swin.layers for block in stage.blocks} == {False, True}


@pytest.mark.parametrize("name", CONVNETS)
def test_a_convnet_takes_images_of_other_sizes_and_has_no_prefix_token(name):
    vit = captum_vit.adapt(captum_vit.load(name))
    site = vit.sites[-1]
    assert {site.prefix_tokens for site in vit.sites} == {0}
    assert not captum_vit.load(name).pretrained_cfg["fixed_input_size"]
    assert vit.patch_map(torch.zeros(1, 3, 96, 160), f"{site.name}:0").shape == (1, *site.grid((96, 160))) == (1, 3, 5)


@pytest.mark.parametrize("name", models.available())
def test_every_available_model_loads_alone_and_without_touching_the_random_numbers(name):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, second = captum_vit.load(name), captum_vit.load(name)
    assert torch.equal(torch.rand(3), expected)
    with torch.no_grad():
        next(first.parameters()).add_(1)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_an_unknown_name_is_an_error_that_lists_the_models():
    with pytest.raises(CaptumViTError, match=r'"deit_nano".*deit_micro'):
        captum_vit.load("deit_nano")


def flip_one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1000], lambda content: b"", flip_one_bit],
    ids=["truncated", "empty", "one bit"],
)
def test_a_damaged_weights_file_is_an_error_that_names_it(damage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    published = MODELS["deit_micro"]
    copy = replace(published, folder=tmp_path)
    copy.weights.write_bytes(damage(published.weights.read_bytes()))
    monkeypatch.setattr(models, "MODELS", {"deit_micro": copy})
    with pytest.raises(CaptumViTError, match=r"deit_micro\.safetensors is corrupted.*SHA-256"):
        captum_vit.load("deit_micro")


def test_a_missing_weights_file_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models, "MODELS", {"deit_micro": replace(MODELS["deit_micro"], folder=tmp_path)})
    with pytest.raises(CaptumViTError, match=r"deit_micro\.safetensors cannot be read \(No such file"):
        captum_vit.load("deit_micro")


def test_the_bundled_photos_are_small_colour_jpegs_of_documented_origin():
    photos = models.default_photos()
    assert len(photos) >= 40
    assert sum(photo.stat().st_size for photo in photos) <= 2_000_000
    origins = (photos[0].parent / "README.md").read_text()
    for photo in photos:
        assert photo.stat().st_size <= 80_000
        assert f"`{photo.name}`" in origins
        with Image.open(photo) as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert min(image.size) >= 200


def test_no_bundled_photo_is_one_that_the_models_were_trained_on():
    assert not {photo.stem.lower() for photo in models.default_photos()} & {name.lower() for name in UNLABELLED}


@pytest.mark.parametrize("name", models.available())
def test_the_classes_are_categories_in_plain_words_and_the_configuration_says_what_was_trained_on(name):
    config = captum_vit.load(name).pretrained_cfg
    assert {"dog", "domestic cat", "bird", "car", "person"} <= set(config["label_names"])
    assert len(set(config["label_names"])) == len(config["label_names"])
    assert "ImageNet" in config["notes"][0]


def views_of_bundled_photos(per_photo: int) -> tuple[Tensor, Tensor]:
    """Random squares of six bundled photos under random colour gains, normalized, and the photo each is from."""
    rng = np.random.default_rng(0)
    views, photo = [], []
    for index, path in enumerate(SIX_PHOTOS):
        image = Image.open(path)
        for _ in range(per_photo):
            side = int(rng.uniform(0.4, 0.8) * min(image.size))
            left, top = rng.integers(image.width - side + 1), rng.integers(image.height - side + 1)
            view = image.resize((64, 64), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
            views.append(np.clip(np.asarray(view) * rng.uniform(0.5, 1.5, size=3), 0, 255))
            photo.append(index)
    pixels = torch.from_numpy(np.stack(views)).float().permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(IMAGENET[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std, torch.tensor(photo)


def same_photo_neighbours(model: nn.Module, views: Tensor, photo: Tensor) -> float:
    """Fraction of views whose nearest other view, by cosine of centred pooled features, is of the same photo."""
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(views), pre_logits=True)
    pooled = functional.normalize(pooled - pooled.mean(0), dim=-1)
    nearest = (pooled @ pooled.T).fill_diagonal_(-1).argmax(1)
    return float((photo[nearest] == photo).float().mean())


@pytest.mark.parametrize("name", models.available())
def test_on_unseen_photos_each_recognizes_two_views_of_one_photo_far_better_than_at_random_weights(name):
    views, photo = views_of_bundled_photos(per_photo=16)
    trained = same_photo_neighbours(captum_vit.load(name), views, photo)
    torch.manual_seed(0)
    untrained = [same_photo_neighbours(MODELS[name].build(), views, photo) for _ in range(3)]
    assert trained > max(untrained) + 0.2
