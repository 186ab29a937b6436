"""Batched transforms: what each does to an image, alone and composed, and Lucent's own beside ours."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
import torch
from lucent.optvis import transform as lucents
from scipy.ndimage import gaussian_filter

import captum_vit
from captum_vit.optvis import transforms
from captum_vit.optvis.foreign import ImageByImage, stages
from captum_vit.optvis.losses import Target
from captum_vit.optvis.randomness import Draws, stream_key
from captum_vit.optvis.transforms import (
    LUCENTS_STANDARD,
    CircularShift,
    ColorShift,
    Ensemble,
    GaussianNoise,
    Jitter,
    Pad,
    PixelNoise,
    RandomCrops,
    RandomRotate,
    RandomScale,
    RelativeShift,
    ShiftByDepth,
)
from captum_vit.optvis.views import Views

ALL = {
    "ensemble": Ensemble(3),
    "color_shift": ColorShift(),
    "gaussian_noise": GaussianNoise(),
    "circular_shift": CircularShift(9),
    "relative_shift": RelativeShift(0.25),
    "shift_by_depth": ShiftByDepth(),
    "pixel_noise": PixelNoise(),
    "random_crops": RandomCrops(crops=3),
    "pad": Pad(4),
    "jitter": Jitter(8),
    "random_scale": RandomScale(),
    "random_rotate": RandomRotate(),
}
CPU = torch.device("cpu")


def draws(count=2, steps=10, step=0, purpose=1, seed=0):
    return Draws([stream_key(seed, f"n{index}") for index in range(count)], steps, CPU).at(step, purpose)


def smooth(count=2, height=24, width=30, seed=0, sigma=3):
    """Images without fine detail, which survives any interpolation; ``(N, 1, 3, H, W)`` around 0.5."""
    noise = np.random.default_rng(seed).standard_normal((count, 1, 3, height, width))
    images = gaussian_filter(noise, (0, 0, 0, sigma, sigma))
    return torch.tensor(0.5 + 0.2 * images / images.std(), dtype=torch.float32)


class Chosen:
    """Numbers that a test chooses, in place of drawn ones."""

    step, steps = 0, 10

    def __init__(self, *values):
        self.values = [torch.as_tensor(value) for value in values]

    def integers(self, low, high, *shape):
        value = self.values.pop(0)
        assert low <= value.min()
        assert value.max() <= high
        return value.expand(1, *shape)

    def choice(self, values, *shape):
        value = self.values.pop(0).float()
        assert value.item() in {np.float32(one) for one in values}
        return value.expand(1, *shape)


@pytest.mark.parametrize("name", ALL)
def test_every_image_gets_what_it_would_get_alone(name):
    images = smooth(3)
    together = ALL[name].apply(Views.of(images), draws(3)).pixels
    for index in range(3):
        alone = Draws([stream_key(0, f"n{index}")], 10, CPU).at(0, 1)
        expected = ALL[name].apply(Views.of(images[index : index + 1]), alone).pixels
        torch.testing.assert_close(together[index : index + 1], expected, rtol=0, atol=1e-6)


def test_neurons_deep_in_the_model_are_shifted_further():
    column = torch.arange(80).float().expand(3, 1, 3, 80, 80)
    depths = [0.0, 0.5, 1.0]
    moved = []
    for step in range(200):
        numbers = Draws([stream_key(0, f"n{index}") for index in range(3)], 200, CPU, depths).at(step, 1)
        pixels = ShiftByDepth(first=0.1, last=0.3).apply(Views.of(column), numbers).pixels
        moved.append((40 - pixels[:, 0, 0, 0, 40]).tolist())
    largest = np.abs(moved).max(axis=0)
    assert largest.tolist() == [8, 16, 24]


def test_how_deep_a_neuron_lies_does_not_depend_on_which_kinds_of_sites_were_asked_for():
    model = captum_vit.load("deit_micro")
    depths = []
    for kinds in ("feed_forward", "all"):
        with captum_vit.adapt(model, sites=kinds) as vit:
            depths.append([Target.of(vit, f"blocks.{index}:7").relative_depth for index in range(6)])
    assert depths[0] == depths[1] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


@pytest.mark.parametrize("name", ALL)
def test_it_is_a_lucent_transform_too(name):
    torch.manual_seed(0)
    images = smooth(2)[:, 0].requires_grad_()
    once = ALL[name](images)
    assert once.shape[0] == 2 * {"ensemble": 3, "random_crops": 3}.get(name, 1)
    assert once.ndim == 4
    once.sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.any()
    if name not in ("ensemble", "pad"):
        torch.manual_seed(0)
        again = type(ALL[name])(**{key: value for key, value in vars(ALL[name]).items() if key[0] != "_"})(images)
        torch.manual_seed(1)
        other = ALL[name](images)
        assert torch.equal(once, again)
        assert not torch.allclose(once, other)


@pytest.mark.parametrize("name", ALL)
def test_it_is_data(name):
    copy = pickle.loads(pickle.dumps(ALL[name]))
    assert copy == ALL[name]
    assert hash(copy) == hash(ALL[name])


@pytest.mark.parametrize(("first", "second"), product(ALL, ALL))
def test_what_is_composed_is_what_is_done_one_after_the_other(first, second):
    """Views carry changes along and look at pixels once; smooth images cannot tell that from looking twice."""
    one, other = ALL[first], ALL[second]
    lazy = other.apply(one.apply(Views.of(smooth()), draws()), draws(purpose=2))
    between = one.apply(Views.of(smooth()), draws())
    if between.frame is not None and second in ("random_scale", "random_rotate", "jitter", "pad", "random_crops"):
        return  # a frame that differs by image is lost in pixels of one size; Lucent's own chain is tested below
    eager = other.apply(between.settled(), draws(purpose=2))
    assert lazy.copies == eager.copies
    difference = (lazy.pixels - eager.pixels).abs()
    # Interpolation twice blurs what interpolation once does not, and black borders are sharp.
    assert difference.median() < 0.02


def test_colours_are_shifted_and_scaled_by_view_and_channel():
    images = smooth()
    views = GaussianNoise(std=0.5).apply(
        ColorShift(mean=1.0, log_std=0.7).apply(Ensemble(4).apply(Views.of(images), draws()), draws(purpose=2)),
        draws(purpose=3, step=2),
    )
    shift, log_scale = (draws(purpose=2).uniform(2, 4, 3, 1, 1) * 2 - 1).unbind(1)
    noise = draws(purpose=3, step=2).normal(4, 3, 1, 1) * 0.5 * 0.8
    torch.testing.assert_close(views.pixels, (images - shift) / torch.exp(0.7 * log_scale) + noise)


@pytest.mark.parametrize(("steps", "expected"), [(None, [1.0, 0.5, 0.1]), (5, [1.0, 0.0, 0.0])])
def test_noise_fades_over_the_render_or_over_its_own_steps(steps, expected):
    views = Views.of(torch.zeros(1, 1, 3, 2, 2))
    for step, remaining in zip((0, 5, 9), expected, strict=True):
        noisy = GaussianNoise(std=1.0, steps=steps).apply(views, draws(1, step=step)).pixels[0, 0, :, 0, 0]
        torch.testing.assert_close(noisy, draws(1, step=step).normal(1, 3)[0, 0] * remaining)


def test_circular_shifts_lose_nothing_and_move_all_views_of_an_image_alike():
    images = smooth().repeat(1, 2, 1, 1, 1).requires_grad_()
    moved = CircularShift(9).apply(Views.of(images), draws()).pixels
    offsets = draws().integers(-9, 9, 2).tolist()
    for image, result, offset in zip(images, moved, offsets, strict=True):
        torch.testing.assert_close(result, image.roll(offset, (-2, -1)), rtol=0, atol=0)
    weights = torch.rand_like(moved)
    (moved * weights).sum().backward()
    for gradient, weight, (down, right) in zip(images.grad, weights, offsets, strict=True):
        torch.testing.assert_close(gradient, weight.roll((-down, -right), (-2, -1)), rtol=0, atol=0)


def test_crops_lie_inside_the_image():
    ramp = torch.linspace(0, 1, 40).expand(1, 1, 3, 40, 40)
    crops = RandomCrops(crops=64, sides=(0.5, 0.1)).apply(Views.of(ramp), draws(1)).pixels[0]
    assert crops.shape == (64, 3, 40, 40)
    assert crops.min() >= 0
    assert crops.max() <= 1
    widths = crops[:, 0, 0, -1] - crops[:, 0, 0, 0]
    assert 0.4 < widths.mean() < 0.6
    assert widths.std() > 0.02


# --- Lucent's own


def by_lucent(transform, images, monkeypatch, *choices):
    """Lucent's transform of one image, which draws the values that are given."""
    left = list(choices)
    monkeypatch.setattr(np.random, "choice", lambda *_: left.pop(0))
    result = transform(images[0])
    assert not left
    return result[None]


def inner(images, border):
    return images[..., border:-border, border:-border]


@pytest.mark.parametrize(("right", "down"), [(0, 0), (7, 2), (3, 6)])
def test_jitter_is_lucents(right, down, monkeypatch):
    images = smooth(1)
    expected = by_lucent(lucents.jitter(8), images, monkeypatch, right, down)
    ours = Jitter(8).apply(Views.of(images), Chosen([right, down])).pixels
    # Lucent's kornia stretches the image by half a pixel at the border.
    torch.testing.assert_close(inner(ours, 8), inner(expected, 8), rtol=0, atol=0.03)


@pytest.mark.parametrize("degrees", [-10, 0, 7])
def test_rotation_is_lucents(degrees, monkeypatch):
    images = smooth(1)
    expected = by_lucent(lucents.random_rotate([degrees]), images, monkeypatch, degrees)
    ours = RandomRotate(degrees=(degrees,)).apply(Views.of(images), Chosen(degrees)).pixels
    torch.testing.assert_close(inner(ours, 6), inner(expected, 6), rtol=0, atol=0.04)


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
def test_scaling_is_lucents_at_the_size_that_the_model_sees(scale, monkeypatch):
    images = smooth(1, 30, 30)
    expected = by_lucent(lucents.random_scale([scale]), images, monkeypatch, scale)[0]
    expected = torch.nn.functional.interpolate(expected, size=(30, 30), mode="bilinear", align_corners=False)
    ours = RandomScale(scales=(scale,)).apply(Views.of(images), Chosen(scale)).at_size((30, 30))[0]
    torch.testing.assert_close(inner(ours, 4), inner(expected, 4), rtol=0, atol=0.04)


@pytest.mark.parametrize("seed", range(4))
def test_the_five_standard_transforms_in_a_row_are_lucents(seed, monkeypatch):
    images = smooth(1, 120, 120, seed, sigma=8)
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 8, 2).tolist(), rng.integers(0, 4, 2).tolist()
    scale, degrees = rng.choice(RandomScale().scales).item(), rng.choice(RandomRotate().degrees).item()
    chain = lucents.compose(lucents.standard_transforms)
    expected = by_lucent(chain, images, monkeypatch, *first, scale, degrees, *second)[0]
    expected = torch.nn.functional.interpolate(expected, size=(120, 120), mode="bilinear", align_corners=False)
    views, numbers = Views.of(images), Chosen(first, scale, degrees, second)
    for transform in LUCENTS_STANDARD:
        views = transform.apply(views, numbers)
    ours = views.at_size((120, 120))[0]
    assert (inner(ours, 26) - inner(expected, 26)).abs().max() < 0.08
    # The frame, too, but for the strips that Lucent cuts off before it turns what is left.
    assert np.corrcoef(ours.flatten(), expected.flatten())[0, 1] > 0.93


def test_the_standard_transforms_draw_from_lucents_distributions():
    assert Pad(12, 0.5) == LUCENTS_STANDARD[0]
    numbers = draws(20_000)
    shifts = numbers.integers(0, 7, 2)
    assert shifts.min() == 0
    assert shifts.max() == 7
    scales = numbers.choice(RandomScale().scales)
    np.testing.assert_allclose(sorted(set(scales.tolist())), [0.9 + 0.02 * i for i in range(11)], atol=1e-6)
    degrees = numbers.choice(RandomRotate().degrees)
    assert abs((degrees == 0).float().mean() - 6 / 26) < 0.01
    assert abs((degrees == -10).float().mean() - 1 / 26) < 0.01


# --- foreign transforms


def test_neighbours_that_are_foreign_are_applied_together():
    one, other = (lambda images: images), lucents.jitter(4)
    found = stages((Ensemble(2), one, other, ColorShift(), one))
    assert found == (Ensemble(2), ImageByImage((one, other)), ColorShift(), ImageByImage((one,)))


def test_a_foreign_transform_works_image_by_image_with_numbers_of_its_own():
    def noisy(images):
        return images.repeat(2, 1, 1, 1)[..., :-3] + torch.rand(()) + np.random.rand()

    images = torch.zeros(2, 1, 3, 8, 9)
    stage = ImageByImage((noisy,))
    together = stage.apply(Views.of(images), draws(2)).pixels
    assert together.shape == (2, 2, 3, 8, 9)  # resized back, so that images of any size fit together
    assert not torch.equal(together[0], together[1])
    alone = stage.apply(Views.of(images[1:]), Draws([stream_key(0, "n1")], 10, CPU).at(0, 1)).pixels
    torch.testing.assert_close(together[1:], alone)
    later = stage.apply(Views.of(images), draws(2, step=1)).pixels
    assert not torch.allclose(together, later)


def test_names_for_lucents_loop_are_the_same_transforms():
    assert transforms.ensemble(3) == Ensemble(3)
    assert transforms.gaussian_noise(0.2, 7) == GaussianNoise(std=0.2, steps=7)
    fading = transforms.gaussian_noise(1.0, steps=2)
    images = torch.zeros(1, 3, 2, 2)
    assert fading(images).any()
    assert fading(images).any()
    assert not fading(images).any()
