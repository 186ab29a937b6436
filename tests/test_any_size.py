"""Images of any size, resized at the adapted model's door: maps keep their place in the image that is passed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import SIX_FAMILIES
from lucent.optvis import render as lucent
from torch import nn

import captum_vit
from captum_vit.errors import ImageSizeError
from captum_vit.testing import check_order

every_family = pytest.mark.parametrize("family", SIX_FAMILIES)


@every_family
def test_stock_lucent_renders_with_all_its_defaults(family):
    torch.manual_seed(0)
    vit = captum_vit.adapt(SIX_FAMILIES[family].build(), any_size=True)
    site = vit.sites[len(vit.sites) // 2]
    (image,) = lucent.render_vis(vit, f"{site.layer}:3", thresholds=(2,), show_image=False, progress=False)
    assert image.shape == (1, 128, 128, 3)  # the size that Lucent's loop takes if nobody tells it one
    assert np.isfinite(image).all()
    assert image.std() > 0


@pytest.mark.parametrize("family", sorted(SIX_FAMILIES.keys() - {"twins"}))  # which takes others than its own
def test_a_wrong_size_is_an_error_that_names_it_in_stock_lucent_too(family):
    vit = captum_vit.adapt(SIX_FAMILIES[family].build())
    with pytest.raises(ImageSizeError, match=r"takes images of \d+x\d+ pixels, and this is \d+x\d+ .*any_size=True"):
        lucent.render_vis(vit, f"{vit.sites[0].layer}:3", thresholds=(2,), show_image=False, progress=False)


@every_family
def test_cells_look_where_their_grid_says_in_the_image_that_is_passed(family):
    check_order(captum_vit.adapt(SIX_FAMILIES[family].build(), any_size=True), (90, 120))


@torch.no_grad()
@every_family
def test_an_image_of_the_models_own_size_is_not_touched(family):
    tiny = SIX_FAMILIES[family]
    model, images = tiny.build(), torch.randn(2, 3, *tiny.image_size)
    expected = model(images)
    vit = captum_vit.adapt(model, any_size=True)
    assert vit.preprocessing.any_size
    assert vit.preprocessing.size == tiny.image_size
    assert torch.equal(vit(images), expected)
    assert [site.grid(tiny.image_size) for site in vit.sites] == [site.grid((77, 301)) for site in vit.sites]


@torch.no_grad()
def test_other_images_are_resized_as_torch_does_it_also_when_passed_by_keyword():
    tiny = SIX_FAMILIES["deit"]
    model, images = tiny.build(), torch.randn(2, 3, 50, 90)
    resized = nn.functional.interpolate(images, tiny.image_size, mode="bilinear", antialias=True)
    expected = model(resized)
    vit = captum_vit.adapt(model, any_size=True)
    assert torch.equal(vit(images), expected)
    assert torch.equal(vit(x=images), expected)


def test_behind_a_wrapper_that_resizes_too_the_cells_have_their_place():
    tiny = SIX_FAMILIES["deit"]

    class Halved(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(images, tiny.image_size, mode="bilinear", antialias=True)

    vit = captum_vit.adapt(nn.Sequential(Halved(), tiny.build()).eval(), any_size=True)
    rows, columns = vit.site("blocks.0").grid.centres((64, 128))
    assert np.allclose(rows, [8, 24, 40, 56], atol=0.5)
    assert np.allclose(columns, [16, 48, 80, 112], atol=0.5)
    check_order(vit, (64, 128))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_in_any_number_format(dtype):
    tiny = SIX_FAMILIES["deit"]
    vit = captum_vit.adapt(tiny.build().to(dtype), any_size=True)
    assert vit(torch.rand(1, 3, 50, 90, dtype=dtype)).dtype == dtype


def test_gradients_reach_the_image_that_was_passed():
    vit = captum_vit.adapt(SIX_FAMILIES["swin"].build(), any_size=True)
    images = torch.randn(1, 3, 100, 60, requires_grad=True)
    vit.neuron(f"{vit.sites[1].name}:2")(images).sum().backward()
    assert images.grad.shape == images.shape
    assert images.grad.any()
