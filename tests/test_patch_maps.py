"""Patch maps on pixels and pixel attributions on patches: one geometry, in both directions, for every family."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from families import TINY_MODELS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from photos import SIX_PHOTOS
from test_geometry import OVERLAPPING, build, without_mixing
from torch import Tensor
from torch.nn.functional import avg_pool2d

import captum_vit
from captum_vit import PatchGrid
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import read_image
from captum_vit.errors import GridError

# Grids as models have them: tiling, overlapping (PiT), padded to whole patches, pooled, merged with ceil (Swin).
GRIDS = {
    "ViT": PatchGrid.patches(8),
    "oblong patches": PatchGrid.patches((4, 8)),
    "PiT": PatchGrid.patches(16, stride=8),
    "PiT, pooled": PatchGrid.patches(16, stride=8).then(3, stride=2, padding=1),
    "padded": PatchGrid.patches(8, ceil=True),
    "Swin": PatchGrid.patches(4).then(2, stride=2, ceil=True).then(2, stride=2, ceil=True),
    "padded on both sides": PatchGrid.patches(7, stride=4, padding=3),
    "wider than the image": PatchGrid.patches(2, stride=1, padding=1),
}
sizes = st.tuples(st.integers(16, 40), st.integers(16, 40))
grids = st.sampled_from(list(GRIDS.values()))
numbers = st.floats(-100, 100, width=32)


@st.composite
def grids_and_pixels(draw) -> tuple[PatchGrid, Tensor]:
    """A grid and an attribution with two leading dimensions."""
    height, width = draw(sizes)
    pixels = draw(arrays(np.float64, (1, 2, height, width), elements=numbers, fill=numbers))
    return draw(grids), torch.from_numpy(pixels)


def averages(grid: PatchGrid, pixels: Tensor) -> np.ndarray:
    """The mean over each cell of the feature mask, in NumPy; NaN where a cell has no pixel."""
    height, width = pixels.shape[-2:]
    rows, columns = grid((height, width))
    cell_of = grid.feature_mask((height, width)).flatten().numpy()
    sums = np.stack(
        [np.bincount(cell_of, image, rows * columns) for image in pixels.reshape(-1, height * width).numpy()]
    )
    with np.errstate(invalid="ignore"):
        means = sums / np.bincount(cell_of, minlength=rows * columns)
    return means.reshape(*pixels.shape[:-2], rows, columns)


@given(grids_and_pixels())
def test_pooling_is_numpys_mean_over_the_cells_of_the_feature_mask(drawn):
    grid, pixels = drawn
    expected = averages(grid, pixels)
    filled = ~np.isnan(expected)
    assert filled.any()
    np.testing.assert_allclose(grid.pool(pixels).numpy()[filled], expected[filled], atol=1e-9)


@given(grids, sizes, numbers)
def test_constants_are_kept_in_both_directions(grid, size, value):
    pixels = torch.full((2, *size), value, dtype=torch.float64)
    pooled = grid.pool(pixels)
    torch.testing.assert_close(pooled, torch.full((2, *grid(size)), value, dtype=torch.float64))
    torch.testing.assert_close(grid.to_image(pooled, size), pixels)


@given(
    st.sampled_from([(PatchGrid.patches(8), 8), (GRIDS["Swin"], 16), (PatchGrid.patches(4), 4)]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 2**31),
)
def test_where_cells_tile_evenly_pooling_is_average_pooling_and_the_mean_is_kept(drawn, cells, seed):
    grid, side = drawn
    pixels = torch.randn(3, cells[0] * side, cells[1] * side, generator=torch.Generator().manual_seed(seed))
    pooled = grid.pool(pixels)
    torch.testing.assert_close(pooled, avg_pool2d(pixels, side))
    torch.testing.assert_close(pooled.mean((1, 2)), pixels.mean((1, 2)))


@given(grids, sizes)
@settings(deadline=None)
def test_pooling_one_feature_of_the_mask_is_one_hot(grid, size):
    mask = grid.feature_mask(size)
    rows, columns = grid(size)
    features = torch.arange(rows * columns)[:, None, None]
    pooled = grid.pool((mask[0] == features).double()).flatten(1)
    has_pixels = torch.isin(features.flatten(), mask)
    # Rows are features, columns cells; a cell without pixels borrows one from a neighbour.
    one_hot = torch.eye(int(has_pixels.sum()), dtype=torch.float64)
    torch.testing.assert_close(pooled[has_pixels][:, has_pixels], one_hot)


@given(grids, sizes, st.integers(0, 2**31))
def test_what_pooling_gives_lies_between_the_smallest_and_the_largest_pixel(grid, size, seed):
    pixels = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pooled = grid.pool(pixels)
    assert pixels.min() - 1e-9 <= pooled.min()
    assert pooled.max() <= pixels.max() + 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_fractions_keep_their_type(dtype):
    pixels = torch.rand(2, 3, 32, 32).to(dtype)
    pooled = GRIDS["ViT"].pool(pixels)
    assert pooled.dtype == dtype
    assert pooled.shape == (2, 3, 4, 4)
    torch.testing.assert_close(pooled.double(), avg_pool2d(pixels.double(), 8), atol=1e-2, rtol=1e-2)


def test_whole_numbers_and_booleans_have_fractions_for_means():
    half = torch.zeros(8, 8, dtype=torch.bool)
    half[:4] = True
    assert GRIDS["ViT"].pool(half).item() == 0.5
    assert GRIDS["ViT"].pool(half.int()).item() == 0.5
    between = GRIDS["ViT"].to_image(torch.tensor([[0, 1]]), (8, 16))
    assert 0 < between[0, 7] < 1


def test_a_gradient_passes_through_pooling():
    pixels = torch.rand(32, 32, requires_grad=True)
    GRIDS["PiT"].pool(pixels).sum().backward()
    assert pixels.grad.isfinite().all()
    assert pixels.grad.min() > 0


def test_a_site_pools_as_its_grid_does():
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    pixels = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(vit.site("blocks.3").pool(pixels), avg_pool2d(pixels, 8))
    vit.restore()


@given(grids, sizes, st.data())
def test_a_map_of_one_active_cell_is_brightest_at_that_cells_true_centre(grid, size, data):
    rows, columns = grid(size)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    patch_map = torch.zeros(rows, columns, dtype=torch.float64)
    patch_map[row, column] = 1
    heat = grid.to_image(patch_map, size)
    y, x = (heat == heat.max()).nonzero().double().T + 0.5
    centres_y, centres_x = grid.centres(size)
    # At the border the heat is level from the centre on.
    assert np.abs(y.numpy() - np.clip(centres_y[row], 0.5, size[0] - 0.5)).min() <= 0.5
    assert np.abs(x.numpy() - np.clip(centres_x[column], 0.5, size[1] - 0.5)).min() <= 0.5


def test_swins_last_stage_has_seven_by_seven_cells_of_32_pixels():
    grid = PatchGrid.patches(4).then(2, stride=2, ceil=True).then(2, stride=2, ceil=True).then(2, stride=2, ceil=True)
    pixels = torch.rand(224, 224)
    torch.testing.assert_close(grid.pool(pixels), avg_pool2d(pixels[None], 32)[0])


def test_pits_outer_cells_are_larger_than_its_inner_ones():
    # 16-pixel patches every 8 pixels: the first centre is at 8, the second at 16, so the first cell ends at 12.
    rows = torch.arange(32, dtype=torch.float64)[:, None].expand(32, 32)
    assert GRIDS["PiT"].pool(rows)[:, 0].tolist() == pytest.approx([5.5, 15.5, 25.5])


@pytest.mark.parametrize("shape", [(), (7,)])
def test_what_has_no_height_and_width_is_refused(shape):
    with pytest.raises(GridError, match=r"give it \(\.\.\., height, width\)"):
        GRIDS["ViT"].pool(torch.zeros(shape))


def test_an_attribution_too_small_for_a_cell_is_refused():
    with pytest.raises(GridError, match="4x40 image is too small"):
        GRIDS["ViT"].pool(torch.zeros(4, 40))


@pytest.mark.parametrize("shape", [(4, 5), (4,), (3, 5, 4)])
def test_a_map_of_another_image_size_is_refused(shape):
    with pytest.raises(GridError, match="not of a 32x32 image, which has 4x4"):
        GRIDS["ViT"].to_image(torch.zeros(shape), (32, 32))


# --- a probe image: a small bright square moves, and the peak of the map follows it


def places(size: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Corners of squares all over the image, off the diagonal too, and not aligned with any patches."""
    height, width = size
    return [
        (round(y * (height - side)), round(x * (width - side)))
        for y, x in [(0.07, 0.52), (0.31, 0.83), (0.5, 0.13), (0.77, 0.41), (0.93, 0.9)]
    ]


@torch.no_grad()
def peaks(vit: captum_vit.AdaptedModel, site: captum_vit.Site, images: Tensor, background: Tensor) -> list[np.ndarray]:
    """Where in pixels the map of all units changes most when a square is put into the background."""
    with vit.until(site.name):
        change = (vit(images) - vit(background)).abs().sum(1)
    size = (images.shape[-2], images.shape[-1])
    heat = site.to_image(change, size)
    # Beyond the outermost centres the heat is level: take the middle of all pixels at the maximum.
    top = heat >= heat.amax((1, 2), keepdim=True) * (1 - 1e-5)
    return [image.nonzero().double().mean(0).numpy() + 0.5 for image in top]


def patch_sides(grid: PatchGrid) -> tuple[int, int]:
    """Height and width in pixels of what a cell sees: the distance between cells, or more where patches overlap."""
    sides = []
    for windows in (grid.rows, grid.columns):
        side = stride = 1
        for window in windows:
            side += (window.kernel - 1) * stride
            stride *= window.stride
        sides.append(side)
    return sides[0], sides[1]


def within_half_a_patch(site: captum_vit.Site, peak: np.ndarray, square: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a peak, which is known to half a pixel, is no farther than that from the middle of the square."""
    for centres, found, true, side in zip(site.grid.centres(size), peak, square, patch_sides(site.grid), strict=True):
        # Beyond the outermost centres the heat is level: what is there counts as if it were at them.
        if np.ptp(np.clip([found, true], centres[0], centres[-1])) > side / 2 + 0.5:
            return False
    return True


def with_squares(size: tuple[int, int], side: int, background: float, brightness: float) -> tuple[Tensor, list]:
    images, squares = [], []
    for top, left in places(size, side):
        image = torch.full((3, *size), background)
        image[:, top : top + side, left : left + side] = brightness
        images.append(image)
        squares.append(np.array([top + side / 2, left + side / 2]))
    return torch.stack(images), squares


@pytest.mark.parametrize("name", [*TINY_MODELS, *OVERLAPPING])
def test_a_moving_squares_peak_is_within_half_a_patch(name):
    model, size = build(name)
    vit = captum_vit.adapt(without_mixing(model))
    images, squares = with_squares(size, 2, background=0.0, brightness=3.0)
    for site in vit.sites:
        for peak, square in zip(peaks(vit, site, images, torch.zeros(1, 3, *size)), squares, strict=True):
            assert within_half_a_patch(site, peak, square, size), (site, peak, square)


@pytest.mark.parametrize("photo", SIX_PHOTOS, ids=lambda path: path.stem)
def test_with_attention_too_a_trained_models_peak_is_within_half_a_patch_of_the_square(photo):
    size, side, misses = (64, 64), 2, Counter()
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        # A photo, because attention carries what happens on a flat background, unlike any in training, elsewhere.
        background = eval_crop(vit)(read_image(photo))
        corners = [(top, left) for top in range(1, 62, 6) for left in range(1, 62, 6)]
        images = background.repeat(len(corners), 1, 1, 1)
        for image, (top, left) in zip(images, corners, strict=True):
            inside = image[:, top : top + side, left : left + side]
            inside.copy_(inside < 0.5)  # bright, or dark where the photo is bright
        squares = np.array(corners) + side / 2
        normalize = vit.preprocessing.normalize
        for site in vit.sites:
            found = peaks(vit, site, normalize(images), normalize(background[None]))
            inside = [within_half_a_patch(site, *each, size) for each in zip(found, squares, strict=True)]
            misses[site.name] = inside.count(False)
    # On all ninety bundled photos 16 of 65,340 miss: 1, 2 and 13 in the last three blocks, two of a photo at most.
    assert not misses["blocks.0"] + misses["blocks.1"] + misses["blocks.2"]
    assert misses.total() <= 2, misses
