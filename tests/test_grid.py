"""Patch-grid arithmetic against torch's own convolutions and poolings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from timm.models.crossvit import scale_image
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, conv1d, conv2d, pad

from captum_vit import PatchGrid
from captum_vit.errors import GridError

Step = tuple[int, int, int]  # kernel, stride, padding


@st.composite
def steps(draw, most: int = 3, overlapping_padding: bool = True) -> list[Step]:
    """Convolutions one after the other, each padded by at most half its kernel."""
    kernels = draw(st.lists(st.integers(1, 7), min_size=1, max_size=most))
    return [
        (kernel, draw(st.integers(1, 5)), draw(st.integers(0, kernel // 2)) if overlapping_padding else 0)
        for kernel in kernels
    ]


def chained(chain: list[Step], ceil: bool = False) -> PatchGrid:
    grid = PatchGrid()
    for kernel, stride, padding in chain:
        grid = grid.then(kernel, stride, padding, ceil)
    return grid


def centres_of_mass(function, pixels: int) -> list[float]:
    """Where each output of a linear function of ``pixels`` pixels looks: the mean position under its gradient."""
    weights = torch.autograd.functional.jacobian(function, torch.zeros(pixels, dtype=torch.float64))
    positions = torch.arange(pixels, dtype=torch.float64) + 0.5
    return (weights @ positions / weights.sum(dim=1)).tolist()


@given(steps(), steps(), st.integers(1, 60), st.integers(1, 60))
def test_the_grid_is_the_shape_that_convolutions_give(rows, columns, height, width):
    rows, columns = zip(*zip(rows, columns, strict=False), strict=True)  # as many for rows as for columns
    grid, images = PatchGrid(), torch.empty(1, 1, height, width, device="meta")
    for by_row, by_column in zip(rows, columns, strict=True):
        kernel, stride, padding = zip(by_row, by_column, strict=True)
        grid = grid.then(kernel, stride, padding)
        try:
            images = conv2d(images, torch.empty(1, 1, *kernel, device="meta"), stride=stride, padding=padding)
        except RuntimeError:
            with pytest.raises(GridError, match=f"{height}x{width}"):
                grid((height, width))
            return
    assert grid((height, width)) == tuple(images.shape[-2:])
    assert [len(centres) for centres in grid.centres((height, width))] == [*images.shape[-2:]]


@given(steps(), st.integers(1, 60))
def test_with_ceil_the_grid_is_the_shape_that_poolings_give(chain, pixels):
    grid, cells = chained(chain, ceil=True), torch.zeros(1, 1, pixels)
    for kernel, stride, padding in chain:
        try:
            cells = avg_pool1d(cells, kernel, stride, padding, ceil_mode=True)
        except RuntimeError:
            with pytest.raises(GridError, match=f"{pixels}x{pixels}"):
                grid((pixels, pixels))
            return
    assert grid((pixels, pixels)) == 2 * (cells.shape[-1],)


@given(st.integers(1, 16), st.integers(1, 100))
def test_with_ceil_patches_are_those_of_an_image_padded_to_a_multiple(patch, pixels):
    padded = pad(torch.zeros(1, 1, pixels), (0, -pixels % patch))
    assert PatchGrid.patches(patch, ceil=True)((pixels, pixels))[0] == padded.shape[-1] // patch


@given(steps(), st.integers(1, 40))
@settings(deadline=None)
def test_centres_are_where_convolutions_look(chain, pixels):
    grid = chained(chain)
    total_stride = math.prod(stride for _, stride, _ in chain)
    reach = sum(kernel for kernel, _, _ in chain) * total_stride
    margin = total_stride * -(-reach // total_stride)
    assume(pixels + 2 * margin < 3000)

    def convolve(image: Tensor) -> Tensor:
        cells = image[None, None]
        for kernel, stride, padding in chain:
            cells = conv1d(cells, torch.ones(1, 1, kernel, dtype=cells.dtype), stride=stride, padding=padding)
        return cells[0, 0]

    try:
        count = len(convolve(torch.zeros(pixels)))
    except RuntimeError:
        assume(False)
    # A cell at the border looks half into the padding. Where that would be shows in an image that goes on beyond it.
    first = margin // total_stride
    measured = centres_of_mass(lambda image: convolve(image)[first : first + count], pixels + 2 * margin)
    rows, columns = grid.centres((pixels, pixels))
    np.testing.assert_allclose(rows, np.array(measured) - margin, atol=1e-8)
    np.testing.assert_array_equal(rows, columns)


@given(steps(overlapping_padding=False), st.integers(1, 40))
@settings(deadline=None)
def test_with_ceil_the_last_cell_looks_at_what_there_is(chain, pixels):
    def pool(image: Tensor) -> Tensor:
        cells = image[None, None]
        for kernel, stride, _ in chain:
            cells = avg_pool1d(cells, kernel, stride, ceil_mode=True, count_include_pad=False)
        return cells[0, 0]

    try:
        measured = centres_of_mass(pool, pixels)
    except RuntimeError:
        assume(False)
    rows, _ = chained(chain, ceil=True).centres((pixels, pixels))
    np.testing.assert_allclose(rows, measured, atol=1e-8)


def test_centres_of_known_patch_embeddings():
    tiles, _ = PatchGrid.patches(16).centres((224, 224))
    assert tiles.tolist() == [8.0 + 16 * i for i in range(14)]
    pit_b = PatchGrid.patches(14, stride=7)
    assert pit_b((224, 224)) == (31, 31)
    assert pit_b.centres((224, 224))[0].tolist() == [7.0 + 7 * i for i in range(31)]
    pooled = pit_b.then(3, 2, 1)
    assert pooled((224, 224)) == (16, 16)
    assert pooled.centres((224, 224))[1].tolist() == [7.0 + 14 * i for i in range(16)]
    swin_merge = PatchGrid.patches(4).then(2, 2, ceil=True)
    assert swin_merge.centres((44, 40)) == (pytest.approx([4, 12, 20, 28, 36, 42]), pytest.approx([4, 12, 20, 28, 36]))


@given(steps(most=2), steps(most=2), st.booleans(), st.integers(8, 50), st.integers(8, 50), st.floats(-3, 3))
@settings(deadline=None)
def test_to_image_keeps_a_linear_ramp_between_centres(by_row, by_column, ceil, height, width, slope):
    grid = PatchGrid(chained(by_row, ceil).rows, chained(by_column, ceil).columns)
    try:
        rows, columns = grid.centres((height, width))
    except GridError:
        assume(False)
    ramp = torch.from_numpy(slope * rows[:, None] + columns + 1.0)
    image = grid.to_image(ramp.expand(2, 3, *ramp.shape), (height, width))
    assert image.shape == (2, 3, height, width)
    y = np.clip(np.arange(height) + 0.5, rows[0], rows[-1])
    x = np.clip(np.arange(width) + 0.5, columns[0], columns[-1])
    np.testing.assert_allclose(image[1, 2].numpy(), slope * y[:, None] + x + 1.0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_to_image_keeps_the_maps_type_and_carries_its_gradient(dtype):
    grid = PatchGrid.patches(8)
    patch_map = torch.ones(1, 3, 2, dtype=dtype, requires_grad=True)
    image = grid.to_image(patch_map, (24, 16))
    assert image.dtype == dtype
    torch.testing.assert_close(image, torch.ones(1, 24, 16, dtype=dtype))
    image.sum().backward()
    torch.testing.assert_close(patch_map.grad, torch.full_like(patch_map, 64.0))


@given(steps(most=2), st.booleans(), st.integers(2, 16), st.integers(16, 60), st.integers(16, 60))
@settings(deadline=None)
def test_feature_mask_gives_each_pixel_the_nearest_cell_and_each_cell_a_pixel(chain, ceil, patch, height, width):
    grid = PatchGrid.patches(patch, ceil=ceil)
    for kernel, stride, padding in chain[1:]:
        assume(2 * padding < kernel and not (ceil and padding))  # such windows look at more cells than there are
        grid = grid.then(kernel, stride, padding, ceil)
    try:
        rows, columns = grid.centres((height, width))
    except GridError:
        assume(False)
    mask = grid.feature_mask((height, width))
    assert mask.shape == (1, 1, height, width)
    assert mask.dtype == torch.int64
    assert mask.unique().tolist() == list(range(len(rows) * len(columns)))
    row, column = np.divmod(mask[0, 0].numpy(), len(columns))
    for centres, chosen, pixels in ((rows, row, np.arange(height)[:, None]), (columns, column, np.arange(width))):
        distances = np.abs(centres - (pixels + 0.5)[..., None])
        picked = np.abs(centres[chosen] - (pixels + 0.5))
        np.testing.assert_allclose(picked, np.broadcast_to(distances.min(axis=-1), picked.shape))


@pytest.mark.parametrize("size", [(15, 64), (64, 15), (0, 0)])
def test_an_image_smaller_than_a_patch_has_no_grid(size):
    for use in (PatchGrid.patches(16), PatchGrid.patches(16).centres, PatchGrid.patches(16).feature_mask):
        with pytest.raises(GridError, match=f"{size[0]}x{size[1]}"):
            use(size)


@pytest.mark.parametrize(("pixels", "cells"), [(408, 384), (11, 4), (10, 7), (9, 9)])
def test_cropped_cells_are_those_in_the_middle_as_crossvit_takes_them(pixels, cells):
    ramp = torch.arange(pixels) + 0.5
    cropped = scale_image(ramp.expand(1, 1, pixels, pixels), (cells, cells), crop_scale=True)
    rows, columns = PatchGrid().cropped(cells).centres((pixels, pixels))
    assert rows.tolist() == columns.tolist() == cropped[0, 0, 0].tolist()
    # What follows goes on from the cells that are left.
    coarser = PatchGrid().cropped(cells).then(2, 2)
    assert coarser((pixels, pixels)) == 2 * (cells // 2,)
    assert coarser.centres((pixels, pixels))[0][0] == rows[:2].mean()


@pytest.mark.parametrize("grid", [PatchGrid().cropped(12), PatchGrid().resized(12)])
def test_where_there_are_too_few_cells_to_crop_they_are_resampled(grid):
    assert grid((6, 24))[0] == 12
    assert grid.centres((6, 12))[0].tolist() == [0.25 + number / 2 for number in range(12)]


def test_a_layer_that_a_model_leaves_out_changes_no_grid():
    convolution = nn.Conv2d(3, 3, 3, stride=2, padding=1)
    assert PatchGrid().through(None, convolution, None) == PatchGrid().through(convolution)
