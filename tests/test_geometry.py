"""Where the cells of a model's maps look, measured by the gradient of the map with respect to the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import TINY_MODELS
from timm.models.coat import ConvPosEnc
from timm.models.convit import GPSA, MHSA
from timm.models.pit import PoolingVisionTransformer
from timm.models.twins import PosConv
from torch import Tensor, nn

import captum_vit

# PiT as it is published, with fewer channels: patches of 16 pixels every 8 (PiT-B: 14 every 7) in 224 pixels.
PIT = {"img_size": 224, "base_dims": (4, 4, 4), "depth": (1, 1, 1), "heads": (1, 2, 4), "num_classes": 5}
OVERLAPPING = {"pit_xs": PIT | {"patch_size": 16, "stride": 8}, "pit_b": PIT | {"patch_size": 14, "stride": 7}}


def build(name: str) -> tuple[nn.Module, tuple[int, int]]:
    if name in OVERLAPPING:
        torch.manual_seed(0)
        return PoolingVisionTransformer(**OVERLAPPING[name]).eval(), (224, 224)
    return TINY_MODELS[name].build(), TINY_MODELS[name].image_size


@torch.no_grad()
def without_mixing(model: nn.Module) -> nn.Module:
    """The model with nothing that mixes the tokens of a stage: what remains is the way from pixels to cells."""
    for module in model.modules():
        if hasattr(module, "in_proj"):  # attention and feed-forward side by side, perhaps with one output projection
            projection = getattr(module, "attn_out_proj", None) or module.out_proj
            projection.weight[:, : projection.out_features] = 0
        elif ("Att" in type(module).__name__ or isinstance(module, GPSA | MHSA)) and hasattr(module, "proj"):
            nn.init.zeros_(module.proj.weight)
        elif isinstance(module, ConvPosEnc | PosConv):
            for convolution in [module.proj] if isinstance(module, ConvPosEnc) else module.proj:
                nn.init.zeros_(convolution.weight)
    return model


def energy(vit: captum_vit.AdaptedModel, site: captum_vit.Site, cell: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Energy ``(H, W)`` of the gradient of a cell's units, over units and images."""
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2)).requires_grad_()
    with vit.until(site.name):
        at_cell = vit(images)[:, :, cell[0], cell[1]]
    total = torch.zeros(size)
    for direction in torch.randn(4, site.units, generator=torch.Generator().manual_seed(3)):
        (gradient,) = torch.autograd.grad((at_cell @ direction).sum(), images, retain_graph=True)
        total += gradient.square().sum(dim=(0, 1))
    return total


def cells_to_try(rows: int, columns: int) -> list[tuple[int, int]]:
    """Corners, an edge and inner cells, none on the diagonal but corners: a swap of rows and columns would show."""
    return sorted(
        {(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1), (rows // 2, 0), (rows // 2, columns // 3)}
    )


def half_a_cell(centres: np.ndarray, pixels: int) -> float:
    return max(np.diff(centres), default=pixels) / 2


@pytest.mark.parametrize("name", [*TINY_MODELS, *OVERLAPPING])
def test_without_attention_a_cell_sees_pixels_around_its_centre_and_no_others(name):
    model, size = build(name)
    vit = captum_vit.adapt(without_mixing(model))
    for site in vit.sites:
        centres = site.grid.centres(size)
        for cell in cells_to_try(*site.grid(size)):
            seen = energy(vit, site, cell, size) > 0
            for axis in (0, 1):
                pixels = seen.any(dim=1 - axis).nonzero()
                middle = (pixels.min() + pixels.max() + 1).item() / 2
                expected = centres[axis][cell[axis]]
                if 0 < cell[axis] < len(centres[axis]) - 1:
                    assert middle == expected, (site, cell)
                # At the border, padding takes away a part of what the cell would see.
                assert abs(middle - expected) <= half_a_cell(centres[axis], size[axis]), (site, cell)


@pytest.mark.parametrize("name", [*TINY_MODELS, *OVERLAPPING])
def test_with_attention_the_gradient_of_a_cell_is_largest_where_it_looks(name):
    model, size = build(name)
    vit = captum_vit.adapt(model)
    # Deeper in a stage of a random model, attention may have moved more than what has stayed.
    first_of_each_grid = {site.grid(size): site for site in reversed(vit.sites)}
    for (rows, columns), site in first_of_each_grid.items():
        nearest = site.feature_mask(size).flatten()
        # Random attention may prefer a certain other cell, but not one that lies in the same direction for all.
        by_offset = torch.zeros(2 * rows, 2 * columns)
        for row, column in cells_to_try(rows, columns):
            seen = energy(vit, site, (row, column), size).flatten()
            by_cell = torch.zeros(rows * columns).index_add(0, nearest, seen).view(rows, columns)
            by_offset[rows - row : 2 * rows - row, columns - column : 2 * columns - column] += by_cell / by_cell.sum()
        assert by_offset.argmax() == rows * 2 * columns + columns, (site, by_offset)
