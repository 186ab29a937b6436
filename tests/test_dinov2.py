"""A trained DINOv2 on photos: what holds with random weights holds with real ones, and its neurons see things."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, interpolate

import captum_vit
from captum_vit.cards.card import neuron_card
from captum_vit.models.training.teacher import load_teacher, weights_file
from captum_vit.optvis.rendering import render

SIZE = (210, 308)  # 15 x 22 patches of 14 pixels
SITE = "blocks.5"


@pytest.fixture(scope="module")
def dinov2() -> nn.Module:
    try:
        weights_file()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return load_teacher()


@pytest.fixture(scope="module")
def vit(dinov2) -> captum_vit.AdaptedModel:
    return captum_vit.adapt(dinov2)


def photos(size: tuple[int, int] = SIZE) -> dict[str, Tensor]:
    """Scikit-learn's photos, pixels in [0, 1], shape ``(1, 3, H, W)``."""
    samples = load_sample_images()
    return {
        Path(name).stem: interpolate(
            torch.tensor(image).permute(2, 0, 1)[None] / 255, size, mode="bilinear", antialias=True
        )
        for name, image in zip(samples.filenames, samples.images, strict=True)
    }


@pytest.fixture(scope="module")
def china_and_flower(vit) -> Tensor:
    pixels = photos()
    return vit.preprocessing.normalize(torch.cat([pixels["china"], pixels["flower"]]))


def maps_at(vit: captum_vit.AdaptedModel, site: str, images: Tensor) -> Tensor:
    with vit.until(site), torch.no_grad():
        return vit(images)


def test_twelve_sites_of_1536_units_behind_one_class_token(vit):
    assert [(site.name, site.units, site.prefix_tokens) for site in vit.sites] == [
        (f"blocks.{i}", 1536, 1) for i in range(12)
    ]
    assert vit.preprocessing.size == (518, 518)


@torch.no_grad()
def test_every_map_on_photos_is_the_hidden_activation_and_outputs_are_bit_identical(dinov2, china_and_flower):
    model = copy.deepcopy(dinov2)
    captum_vit.restore(model)
    tokens: list[Tensor] = []
    hooks = [
        block.mlp.register_forward_hook(lambda mlp, args, output: tokens.append(gelu(mlp.fc1(args[0]))))
        for block in model.blocks
    ]
    plain = model(china_and_flower)
    for hook in hooks:
        hook.remove()
    vit = captum_vit.adapt(model)
    assert torch.equal(vit(china_and_flower), plain)
    maps: list[Tensor] = []
    for probe in vit.ffn.values():
        probe.register_forward_hook(lambda probe, args, output: maps.append(output))
    assert torch.equal(vit(china_and_flower), plain)
    assert len(maps) == len(tokens) == 12
    for patch_map, hidden in zip(maps, tokens, strict=True):
        assert patch_map.shape == (2, 1536, 15, 22)
        torch.testing.assert_close(patch_map, hidden[:, 1:].reshape(2, 15, 22, 1536).permute(0, 3, 1, 2))


def auc(scores: Tensor, labels: Tensor) -> float:
    """Probability that a score where the label is true exceeds one where it is false (Mann-Whitney)."""
    above = scores[labels][:, None] > scores[~labels][None]
    return above.float().mean().item()


@pytest.fixture(scope="module")
def flower_region() -> Tensor:
    """The patches of the flower, told from the leaves by its colour alone."""
    red, green, _ = photos()["flower"][0]
    region = avg_pool2d(((red > 0.4) & (red > 1.3 * green)).float()[None], 14)[0] > 0.5
    assert 0.15 < region.float().mean() < 0.35
    return region


@pytest.fixture(scope="module")
def flower_neuron(vit, china_and_flower, flower_region) -> int:
    """The unit that tells the flower from the leaves best in the left half of the photo."""
    maps = maps_at(vit, SITE, china_and_flower)[1]
    return max(range(1536), key=lambda unit: auc(maps[unit][:, :11], flower_region[:, :11]))


def test_a_neuron_that_finds_the_flower_in_one_half_of_the_photo_finds_it_in_the_other(
    vit, china_and_flower, flower_region, flower_neuron
):
    china, flower = vit.patch_map(china_and_flower, f"{SITE}:{flower_neuron}")
    assert auc(flower[:, 11:], flower_region[:, 11:]) > 0.95
    assert flower[flower_region].mean() > flower[~flower_region].mean() + 3 * flower[~flower_region].std()
    assert flower[flower_region].mean() > china.quantile(0.99)


@pytest.mark.parametrize("step", [(0, 1), (1, 0)], ids=["right", "down"])
def test_maps_move_with_the_photo(vit, step):
    """A photo that is moved by one patch gives the same map moved by one cell, not another and not a turned one."""
    rows, columns = step
    height, width = SIZE

    def similarity(first: Tensor, second: Tensor) -> Tensor:
        return torch.nn.functional.cosine_similarity(
            *(maps.flatten(1) - maps.flatten(1).mean(dim=1, keepdim=True) for maps in (first, second))
        )

    for photo in photos((height + 14, width + 14)).values():
        images = vit.preprocessing.normalize(photo)
        first = images[..., :height, :width]
        moved = images[..., 14 * rows :, 14 * columns :][..., :height, :width]
        for site in ("blocks.0", SITE, "blocks.11"):
            before, after = maps_at(vit, site, first)[0], maps_at(vit, site, moved)[0]
            at_same_pixels = similarity(before[:, rows:, columns:], after[:, : 15 - rows, : 22 - columns])
            at_same_cells = similarity(before, after)
            assert at_same_pixels.median() > 0.9
            assert (at_same_pixels > at_same_cells).float().mean() > 0.9


def test_the_card_of_the_flower_neuron_shows_the_flower(vit, flower_neuron):
    folder = Path(load_sample_images.__globals__["__file__"]).parent / "images"
    files = [folder / "china.jpg", folder / "flower.jpg"]
    address = f"{SITE}:{flower_neuron}"
    card = neuron_card(vit, address, files, steps=3, size=112, progress=False)
    assert card.photo.path == files[1]
    assert card.address == address
    assert card.photo.patch_map.shape == (37, 37)
    pixels = torch.from_numpy(card.photo.pixels).permute(2, 0, 1)[None]
    images = vit.preprocessing.normalize(pixels)
    np.testing.assert_allclose(card.photo.patch_map, vit.patch_map(images, address)[0], atol=1e-5)
    red, green, _ = pixels[0]
    hottest = card.photo.heat > np.quantile(card.photo.heat, 0.95)
    assert (red > 1.3 * green).numpy()[hottest].mean() > 0.8
    assert card.optimized.image.shape == (112, 112, 3)
    assert np.isfinite(card.optimized.image).all()


def test_an_optimized_image_excites_a_neuron_more_than_photos_do(vit, china_and_flower):
    (optimized,) = render(vit, "blocks.2:10", recipe="lucent", size=112, steps=48, progress=False)
    assert optimized.problem is None
    assert optimized.activation > 0 > optimized.start
    assert optimized.activation > vit.neuron("blocks.2:10")(china_and_flower).max()
