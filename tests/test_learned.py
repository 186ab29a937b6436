"""What needs learned features, on the embedded models: maps, most activating images, attributions, renders."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import skimage.data
import torch
from benchmarks.depth import SHIFT, SIDE, maps_of, scene_and_view
from captum.attr import IntegratedGradients
from families import SIX_LEARNED
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

import captum_vit
from captum_vit.data.images import read_image
from captum_vit.models import available, default_photos
from captum_vit.models.registry import MODELS

# Photos of the training set that are installed with scikit-image; of each, the last quarter was kept from training.
CLASSES = ("brick", "coins", "grass", "gravel")


@functools.cache
def adapted(name: str) -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load(name))


def untrained(name: str, seed: int) -> captum_vit.AdaptedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return captum_vit.adapt(MODELS[name].build())


@functools.cache
def views(each: int = 1) -> tuple[Tensor, Tensor]:
    """Two views ``(N, 3, 64, 64)`` of unseen photos, the second 16 pixels to the right."""
    rng = np.random.default_rng(0)
    pairs = []
    for path in default_photos():
        image = Image.fromarray((read_image(path) * 255).astype(np.uint8))
        for _ in range(each):
            scale = rng.uniform(0.4, 0.7) * min(image.size) / SIDE
            width, height = (SIDE + SHIFT) * scale, SIDE * scale
            left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
            both = image.resize((SIDE + SHIFT, SIDE), box=(left, top, left + width, top + height))
            pairs.append(torch.from_numpy(np.array(both)).permute(2, 0, 1).float() / 255)
    wide = torch.stack(pairs)
    return wide[..., :SIDE], wide[..., SHIFT:]


# Not convnext_micro, whose hidden units tell photos apart more than places, as its documentation says.
@pytest.mark.parametrize("name", [*SIX_LEARNED, "resnet_micro"])
def test_patch_maps_follow_the_scene_and_not_the_frame(name):
    left, right = views()
    vit = adapted(name)
    of_left, of_right = maps_of(vit, left), maps_of(vit, right)
    found = [
        (site, *scene_and_view(site.grid, of_left[site.name], of_right[site.name]))
        for site in vit.sites[: len(vit.sites) // 2]
    ]
    told = [(site, scene, view) for site, scene, view in found if scene is not None]
    assert len(told) >= 3
    for site, scene, view in told:
        assert scene > view + 0.2, site


def reserved_crops(count: int = 12) -> tuple[Tensor, list[str]]:
    """Crops ``(N, 3, 64, 64)`` of the parts of training photos that no model was trained on."""
    rng = np.random.default_rng(0)
    crops, names = [], []
    for name in CLASSES:
        photo = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        begin = round(0.75 * photo.width)
        for _ in range(count):
            side = rng.uniform(0.6, 1.0) * (photo.width - begin)
            left, top = rng.uniform(begin, photo.width - side), rng.uniform(0, photo.height - side)
            part = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
            crops.append(torch.from_numpy(np.array(part)).permute(2, 0, 1).float() / 255)
            names.append(name)
    return torch.stack(crops), names


@pytest.mark.parametrize("name", available())
def test_the_top_images_of_a_unit_are_of_one_class_more_often_than_at_random_weights(name):
    """Units of the later sites look for what tells the training photos apart, in parts of them that are new.

    By their largest patch: the mean over patches follows a crop's overall brightness, at random weights as well.
    """
    crops, names = reserved_crops()

    def agreement(vit: captum_vit.AdaptedModel) -> float:
        late = [site.name for site in vit.sites[len(vit.sites) // 2 :]]
        images = TensorDataset(vit.preprocessing.normalize(crops))
        top = captum_vit.top_images(vit, images, k=4, sites=late, reduction="max", batch_size=48, progress=False)
        same = []
        for site in late:
            for unit in range(0, vit.site(site).units, 4):
                first, *rest = (names[found.index] for found in top.best(f"{site}:{unit}"))
                same.append(np.mean([other == first for other in rest]))
        return float(np.mean(same))

    assert agreement(adapted(name)) > max(agreement(untrained(name, seed)) for seed in range(2)) + 0.05


@pytest.mark.parametrize("name", SIX_LEARNED)
def test_class_attributions_name_the_patches_that_carry_the_class(name):
    """Without the third of patches with the largest attribution, the logit falls more than without a random third.

    The class is the one that the model itself takes a photo for, right or wrong.
    """
    vit = adapted(name)
    images = vit.preprocessing.normalize(views()[0][::8])
    with torch.no_grad():
        target = vit(images).argmax(1)
    attributions, delta = IntegratedGradients(vit).attribute(
        images, target=target, n_steps=24, return_convergence_delta=True
    )
    with torch.no_grad():
        full, empty = (vit(batch).gather(1, target[:, None])[:, 0] for batch in (images, torch.zeros_like(images)))
    assert delta.abs().mean() < 0.15 * (full - empty).abs().mean()

    cells = attributions.sum(1).unflatten(2, (8, 8)).unflatten(1, (8, 8)).sum((2, 4)).flatten(1)
    order = cells.argsort(1, descending=True)
    random = torch.rand(cells.shape, generator=torch.Generator().manual_seed(0)).argsort(1)

    def without(chosen: Tensor) -> Tensor:
        kept = torch.ones_like(cells).scatter(1, chosen[:, :21], 0).unflatten(1, (8, 8))
        masks = kept.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
        with torch.no_grad():
            return vit(images * masks).gather(1, target[:, None])[:, 0]

    assert (full - without(order)).mean() > (full - without(random)).mean()


@pytest.mark.parametrize("name", SIX_LEARNED)
def test_short_renders_excite_most_neurons_more_than_any_photo_does(name):
    vit = adapted(name)
    left, right = views()
    maps = maps_of(vit, torch.cat([left, right]))
    rng = np.random.default_rng(0)
    best = {}
    for site in vit.sites:
        activations = maps[site.name].mean(dim=(2, 3)).amax(0)
        for unit in rng.choice((activations > 0).nonzero().flatten().numpy(), 2, replace=False):
            best[f"{site.name}:{unit}"] = float(activations[unit])
    renders = captum_vit.render(vit, list(best), steps=24, batch_size=32, progress=False)
    ratios = {render.neuron: render.activation / best[render.neuron] for render in renders}
    assert np.mean([ratio > 1 for ratio in ratios.values()]) > 0.5, ratios
