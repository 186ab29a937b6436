"""Plots: what is drawn where, in which colours, and that they fit Captum's own."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from captum.attr import visualization
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import captum_vit
from captum_vit import plots
from captum_vit.errors import PlotError

SIZE = (24, 32)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((*SIZE, 3))


@pytest.fixture
def heat() -> np.ndarray:
    return np.random.default_rng(1).random(SIZE)


def drawn(ax: Axes) -> np.ndarray:
    """What the axes show, as given to matplotlib."""
    (picture,) = ax.get_images()
    return np.asarray(picture.get_array())


def scale_bars(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


def lightness(colours: np.ndarray) -> np.ndarray:
    return colours[:, :3] @ [0.299, 0.587, 0.114]


# --- scales


def test_a_map_without_negative_values_goes_from_zero_to_its_maximum_in_even_lightness(heat):
    scale = plots.color_scale(3 * heat)
    assert scale.get_clim() == (0, 3 * heat.max())
    colours = scale.to_rgba(np.linspace(0, 3 * heat.max(), 20))
    assert (np.diff(lightness(colours)) > 0).all()


def test_a_signed_map_is_centred_on_zero_which_is_white(heat):
    signed = heat - 0.2
    scale = plots.color_scale(signed)
    assert scale.get_clim() == (-signed.max(), signed.max())
    below, zero, above = scale.to_rgba(np.array([-0.6, 0, 0.6]) * signed.max())
    assert zero[:3].min() > 0.95
    # Red against blue, which no common colour blindness confuses; never red against green.
    assert below[2] - below[0] > 0.3
    assert above[0] - above[2] > 0.3


def test_a_signed_maps_larger_side_sets_the_scale():
    assert plots.color_scale(np.array([[-4.0, 1.0]])).get_clim() == (-4, 4)


def test_maps_share_a_scale(heat):
    assert plots.color_scale(heat, 5 * heat).get_clim() == (0, 5 * heat.max())
    assert plots.color_scale(heat, -5 * heat).get_clim() == (-5 * heat.max(), 5 * heat.max())


def test_outliers_leave_the_scale_and_the_bar_says_so():
    values = np.ones((100, 100))
    values[3, 3] = 1000
    assert plots.color_scale(values).get_clim() == (0, 1000)
    for outliers, extend, smallest in ((0, "neither", 0), (0.1, "max", 0), (0.1, "both", -1)):
        values[4, 4] = smallest
        scale = plots.color_scale(values, outliers=outliers)
        bar = Figure().add_subplot().figure.colorbar(scale, ax=Figure().add_subplot())
        assert bar.extend == extend
    assert scale.get_clim() == (-1, 1)


@pytest.mark.parametrize("value", [0.0, 2.0, -2.0])
def test_a_constant_map_has_a_scale(value):
    low, high = plots.color_scale(np.full(SIZE, value)).get_clim()
    assert low <= value <= high
    assert low < high


def test_a_scale_needs_maps_and_a_percentage(heat):
    with pytest.raises(PlotError, match="no map to scale"):
        plots.color_scale()
    with pytest.raises(PlotError, match="percentage"):
        plots.color_scale(heat, outliers=100)


# --- drawing


def test_an_overlay_is_grey_image_and_colour_in_the_given_proportion(image, heat):
    grey = drawn(plots.overlay(image, heat, opacity=0))
    assert np.ptp(grey, axis=2).max() < 1e-6
    np.testing.assert_allclose(grey[..., 0], lightness(image.reshape(-1, 3)).reshape(SIZE), atol=1e-6)
    colour = drawn(plots.overlay(image, heat, opacity=1))
    np.testing.assert_allclose(colour, plots.color_scale(heat).to_rgba(heat)[..., :3], atol=1e-6)
    np.testing.assert_allclose(drawn(plots.overlay(image, heat, opacity=0.25)), 0.75 * grey + 0.25 * colour, atol=1e-6)


def test_a_heat_map_shows_the_values_themselves_and_what_they_are(heat):
    ax = plots.heat_map(heat, label="attribution")
    np.testing.assert_array_equal(drawn(ax), heat)
    (bar,) = scale_bars(ax.figure)
    assert bar.get_ylabel() == "attribution"
    assert bar.get_ylim() == (0, heat.max())


def test_side_by_side_has_the_image_first_and_each_map_with_its_own_bar(image, heat):
    figure = plots.side_by_side(
        image, heat, 2 * heat - 1, titles=["photo $5", "map", "attribution"], labels=["activation", "attribution"]
    )
    bars = scale_bars(figure)
    first, second, third = (ax for ax in figure.axes if ax not in bars)
    np.testing.assert_array_equal(drawn(first), image)
    np.testing.assert_allclose(drawn(second), drawn(plots.overlay(image, heat)), atol=1e-6)
    np.testing.assert_allclose(drawn(third), drawn(plots.overlay(image, 2 * heat - 1)), atol=1e-6)
    assert [ax.get_title() for ax in (first, second, third)] == ["photo $5", "map", "attribution"]
    assert [bar.get_ylabel() for bar in bars] == ["activation", "attribution"]
    figure.canvas.draw()  # a lone dollar sign is no mathematics


def test_on_one_scale_equal_values_have_equal_colours(image, heat):
    scale = plots.color_scale(heat, 2 * heat)
    figure = plots.side_by_side(image, heat, 2 * heat, scales=[scale, scale])
    assert [bar.get_ylim() for bar in scale_bars(figure)] == [(0, 2 * heat.max())] * 2
    assert np.abs(drawn(figure.axes[1]) - drawn(figure.axes[2])).max() > 0.01


def test_plots_are_drawn_on_given_axes(image, heat):
    axes = Figure().subplots(1, 2)
    assert plots.overlay(image, heat, axes[0]) is axes[0]
    assert plots.heat_map(heat, ax=axes[1]) is axes[1]
    assert all(ax.get_images() for ax in axes)


def test_tensors_channels_first_and_half_precision_are_drawn_like_arrays(image, heat):
    expected = drawn(plots.overlay(image, heat))
    tensor = torch.from_numpy(image).permute(2, 0, 1).requires_grad_()
    np.testing.assert_allclose(drawn(plots.overlay(tensor, torch.from_numpy(heat).requires_grad_())), expected)
    np.testing.assert_allclose(drawn(plots.overlay(tensor.bfloat16(), torch.from_numpy(heat))), expected, atol=0.01)


@pytest.mark.parametrize("channels_first", [True, False])
def test_an_attributions_channels_are_summed(image, channels_first):
    attribution = np.random.default_rng(2).normal(size=(*SIZE, 3))
    given = attribution.transpose(2, 0, 1) if channels_first else attribution
    np.testing.assert_allclose(drawn(plots.heat_map(given)), attribution.sum(2))
    np.testing.assert_allclose(drawn(plots.overlay(image, given)), drawn(plots.overlay(image, attribution.sum(2))))


def test_pyplot_is_left_alone(image, heat):
    matplotlib.use("agg")
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    plots.side_by_side(image, heat)
    plots.heat_map(heat)
    assert pyplot.get_fignums() == before


def test_a_figure_is_saved_as_a_picture(image, heat, tmp_path):
    plots.save_figure(plots.side_by_side(image, heat), tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 2 * picture.height
        assert len(picture.convert("RGB").getcolors(2**24)) > 1000


# --- Captum's visualization


def test_captum_draws_the_same_arrays_with_the_same_colours(image):
    attribution = np.random.default_rng(2).normal(size=(*SIZE, 3))
    scale = plots.color_scale(attribution)
    figure, ax = visualization.visualize_image_attr(
        attribution, image, sign="all", cmap=scale.cmap, outlier_perc=0, use_pyplot=False
    )
    assert isinstance(figure, Figure)
    (theirs,) = ax.get_images()
    ours = drawn(plots.heat_map(attribution))
    colours = theirs.to_rgba(theirs.get_array())
    np.testing.assert_allclose(colours, scale.to_rgba(ours), atol=0.02)  # a step of its 256 colours


@pytest.mark.parametrize("method", ["heat_map", "blended_heat_map", "masked_image", "alpha_scaling"])
def test_captum_draws_what_a_site_resamples(method):
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        pixels = torch.rand(3, 64, 64)
        patch_map = vit.patch_map(vit.preprocessing.normalize(pixels[None]), "blocks.4:307")
        heat = vit.site("blocks.4").to_image(patch_map, (64, 64))[0]
    _, ax = visualization.visualize_image_attr(
        heat.numpy(), pixels.permute(1, 2, 0).numpy(), method, "absolute_value", use_pyplot=False
    )
    assert ax.get_images()
    assert plots.overlay(pixels.permute(1, 2, 0).numpy(), heat.numpy()).get_images()


# --- what cannot be drawn


@pytest.mark.parametrize(
    ("shape", "told"), [((8, 8), "8x8 does not fit an image of 24x32; resample"), ((1, *SIZE), r"shape \(1, 24, 32\)")]
)
def test_a_map_that_does_not_fit_the_image_is_refused(image, shape, told):
    with pytest.raises(PlotError, match=told):
        plots.overlay(image, np.zeros(shape))


@pytest.mark.parametrize("shape", [(24, 32), (1, 3, 24, 32), (24, 32, 4)])
def test_what_is_no_image_is_refused(heat, shape):
    with pytest.raises(PlotError, match=r"give one \(height, width, 3\)"):
        plots.overlay(np.zeros(shape), heat)


@pytest.mark.parametrize("value", [255.0, -2.0, np.nan])
def test_pixels_out_of_range_are_refused(image, heat, value):
    image[0, 0, 0] = value
    with pytest.raises(PlotError, match=r"in \[0, 1\]"):
        plots.overlay(image, heat)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_refused(heat, value):
    heat[2, 2] = value
    with pytest.raises(PlotError, match="infinite values or NaN"):
        plots.heat_map(heat)


@pytest.mark.parametrize("words", [{"titles": ["one"]}, {"labels": ["a", "b"]}, {"scales": [None, None]}])
def test_a_wrong_number_of_titles_labels_or_scales_is_refused(image, heat, words):
    with pytest.raises(PlotError, match=f"{next(iter(words))} do not fit an image and its maps"):
        plots.side_by_side(image, heat, **words)
