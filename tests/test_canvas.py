"""A canvas of another size than what the model sees: crops straight from it, and the whole where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import SIX_FAMILIES
from lucent.optvis import transform as lucents
from operations import Operations
from photos import CAT
from PIL import Image
from torch.nn.functional import interpolate
from typer.testing import CliRunner

import captum_vit
from captum_vit.cli import app
from captum_vit.models import default_photos
from captum_vit.optvis.canvas import Times, canvas_pixels
from captum_vit.optvis.folder import render_into
from captum_vit.optvis.optimizers import Adam, NAdam
from captum_vit.optvis.parametrizations import Phases, _magnitudes
from captum_vit.optvis.penalties import TotalVariation
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.randomness import Draws, stream_key
from captum_vit.optvis.recipes import RECIPES
from captum_vit.optvis.robustness import six_views
from captum_vit.optvis.transforms import (
    LUCENTS_STANDARD,
    Ensemble,
    GaussianNoise,
    Jitter,
    PixelNoise,
    RandomCrops,
    random_crops,
)
from captum_vit.optvis.views import Views

CPU = torch.device("cpu")
CROPS = replace(
    RECIPES["fourier"],
    name="crops",
    transforms=(RandomCrops(crops=3, sides=(0.4, 0.3)), PixelNoise(std=0.02)),
    canvas=Times(3),
)
WHOLE = replace(RECIPES["fourier"], name="whole", canvas=96)
QUICK = {"steps": 3, "progress": False}


@pytest.fixture(scope="module")
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


@pytest.fixture(scope="module")
def vit_of_any_size():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build(), any_size=True)


def draws(count=1, step=0, steps=4):
    return Draws([stream_key(0, f"n{index}") for index in range(count)], steps, CPU).at(step, 1)


def canvases(height, width, count=1, seed=0):
    return torch.rand(count, 1, 3, height, width, generator=torch.Generator().manual_seed(seed))


# --- plans


@pytest.mark.parametrize(
    ("recipe", "settings", "canvas", "seen"),
    [
        ("fourier", {}, (32, 32), (32, 32)),
        ("fourier", {"canvas": 80}, (80, 80), (32, 32)),
        ("fourier", {"canvas": (80, 48)}, (80, 48), (32, 32)),
        ("fourier", {"canvas": Times(1.6)}, (51, 51), (32, 32)),
        ("fourier", {"canvas": 16}, (16, 16), (32, 32)),
        (CROPS, {}, (96, 96), (32, 32)),
        (CROPS, {"canvas": 50}, (50, 50), (32, 32)),
        (CROPS, {"canvas": Times(1)}, (32, 32), (32, 32)),
        (WHOLE, {}, (96, 96), (32, 32)),
    ],
)
def test_a_plan_knows_the_canvas_and_what_the_model_sees(vit, recipe, settings, canvas, seen):
    plan = RenderPlan.of(vit, recipe=recipe, **settings)
    assert (plan.size, plan.input_size) == (canvas, seen)
    assert plan.settings["size"] == list(canvas)
    assert plan.settings["input_size"] == list(seen)


@pytest.mark.parametrize(
    ("settings", "canvas", "seen"),
    [
        ({}, (96, 96), (32, 32)),
        ({"size": 48}, (144, 144), (48, 48)),
        ({"size": (48, 32)}, (144, 96), (48, 32)),
        ({"size": 48, "canvas": 100}, (100, 100), (48, 48)),
    ],
)
def test_beside_a_canvas_size_is_what_a_model_of_any_size_sees(vit_of_any_size, settings, canvas, seen):
    plan = RenderPlan.of(vit_of_any_size, recipe=CROPS, **settings)
    assert (plan.size, plan.input_size) == (canvas, seen)


def test_contenders_paint_on_one_canvas(vit):
    contest = replace(RECIPES["fourier"], name="contest", contenders=(CROPS, RECIPES["fourier"]), canvas=40)
    plan = RenderPlan.of(vit, recipe=contest, steps=4)
    assert {contender.size for contender in plan.contenders} == {(40, 40)}
    renders = captum_vit.render(vit, ["blocks.1:3", "blocks.0:1"], plan=plan, progress=False)
    assert renders.images.shape == (2, 40, 40, 3)


# --- what the model sees


def published_crops(image, boxes, size):
    """What the authors' code sees, ``torchvision.ops.roi_align``: the mean of evenly spread bilinear looks."""
    from torchvision.ops import roi_align

    rows = torch.cat((torch.zeros(len(boxes), 1), boxes), dim=1)
    return roi_align(image, rows, output_size=size, aligned=True)


@pytest.mark.parametrize(("side", "size"), [(0.3, (32, 32)), (0.75, (30, 30)), (0.1, (24, 24))])
def test_a_crop_is_what_the_authors_crops_are(side, size):
    canvas = canvases(120, 120)
    crops = RandomCrops(crops=5, sides=(side, side), spread=0.0)
    seen = crops.apply(Views.of(canvas, size), draws())
    assert seen.size == size
    placed = draws().normal(3, 5)[0, 1:] * 0.3
    centres = 60 + placed.clamp(side - 1, 1 - side) * 60
    right, down = centres.unbind(0)
    half = side * 60
    boxes = torch.stack((right - half, down - half, right + half, down + half), dim=1)
    torch.testing.assert_close(seen.pixels[0], published_crops(canvas[0], boxes, size), atol=2e-3, rtol=0)


def test_every_pixel_of_a_crop_counts():
    """One look a pixel of the crop would leave three of four pixels of the canvas without a gradient."""
    canvas = canvases(128, 128).requires_grad_()
    seen = RandomCrops(crops=1, sides=(1.0, 1.0), spread=0.0).apply(Views.of(canvas, (16, 16)), draws()).pixels
    seen.sum().backward()
    assert (canvas.grad > 0).float().mean() > 0.99


@pytest.mark.parametrize("transforms", [(), (Ensemble(2),), (Ensemble(2), GaussianNoise(0.0))])
def test_without_crops_the_model_sees_the_whole_canvas_antialiased(transforms):
    views = Views.of(canvases(96, 80), (32, 32))
    for transform in transforms:
        views = transform.apply(views, draws())
    seen = views.at_size((32, 32)).expand(-1, views.copies, -1, -1, -1)
    expected = interpolate(canvases(96, 80)[:, 0], (32, 32), mode="bilinear", antialias=True)
    for copy in seen[0]:
        torch.testing.assert_close(copy, expected[0])


def test_a_turned_canvas_is_not_skipped_through_either():
    checks = (torch.arange(128)[:, None] + torch.arange(128)) % 2
    views = Views.of(checks.float().expand(1, 1, 3, 128, 128), (32, 32))
    for transform in LUCENTS_STANDARD[1:]:
        views = transform.apply(views, draws())
    seen = views.at_size((32, 32))[..., 8:-8, 8:-8]
    assert (seen - 0.5).abs().max() < 0.2, "a pattern too fine to be seen is grey"


def test_on_a_canvas_of_the_models_own_size_one_look_is_taken():
    canvas = canvases(32, 32)
    for views in (Views.of(canvas), Views.of(canvas, (32, 32)), Views.of(canvas, (40, 32))):
        seen = Jitter(8).apply(views, draws()).pixels
        right, down = draws().integers(0, 7, 1, 2)[0, 0].tolist()
        assert torch.allclose(seen[..., down:, right:], canvas[..., : 32 - down, : 32 - right], atol=1e-5)


def test_noise_behind_crops_is_that_of_what_the_model_sees():
    views = RandomCrops(crops=4).apply(Views.of(canvases(200, 200), (24, 24)), draws())
    noisy = PixelNoise(std=1.0).apply(views, draws())
    assert noisy.images.shape == (1, 4, 3, 24, 24)
    assert (noisy.pixels - views.pixels).std() == pytest.approx(1, abs=0.05)
    assert noisy.at_size((24, 24)) is noisy.images


def test_a_foreign_crop_stays_what_it_is():
    from captum_vit.optvis.foreign import ImageByImage

    views = ImageByImage((lambda images: images[..., :32, :32],)).apply(Views.of(canvases(96, 96), (32, 32)), draws())
    assert torch.equal(views.pixels, canvases(96, 96)[..., :32, :32])
    other = ImageByImage((lucents.jitter(4),)).apply(Views.of(canvases(96, 96), (32, 32)), draws())
    assert other.size == (96, 96)


def test_in_lucents_loop_crops_have_the_size_that_is_said():
    images = canvases(200, 160)[:, 0]
    assert random_crops(3, (0.3, 0.3), size=32)(images).shape == (3, 3, 32, 32)
    assert random_crops(3, (0.3, 0.3))(images).shape == (3, 3, 200, 160)


# --- renders


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_every_family_paints_a_canvas_larger_than_its_input(family):
    vit = captum_vit.adapt(SIX_FAMILIES[family].build())
    height, width = vit.preprocessing.size
    neuron = f"{vit.sites[len(vit.sites) // 2].name}:3"
    (render,) = captum_vit.render(vit, neuron, recipe=CROPS, **QUICK)
    assert render.image.shape == (3 * height, 3 * width, 3)
    assert np.isfinite(render.history).all()
    assert render.settings["input_size"] == [height, width]


@pytest.mark.parametrize("recipe", [CROPS, WHOLE], ids=lambda recipe: recipe.name)
def test_a_neurons_canvas_does_not_depend_on_its_company(vit, recipe):
    company = ["blocks.2:1", "blocks.1:7", "blocks.0:2"]
    together = captum_vit.render(vit, company, recipe=recipe, **QUICK)
    alone = captum_vit.render(vit, "blocks.1:7", recipe=recipe, **QUICK)
    np.testing.assert_allclose(together[1].image, alone[0].image, atol=1e-4)


@torch.no_grad()
def activation_of(vit, pixels):
    return vit.neuron("blocks.1:7")(vit.preprocessing.normalize(pixels)).mean().item()


def test_the_activation_is_that_of_the_whole_canvas_where_nothing_crops(vit):
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe=WHOLE, **QUICK)
    image = torch.from_numpy(render.image).permute(2, 0, 1)[None]
    seen = [interpolate(view, (32, 32), mode="bilinear", antialias=True) for view in (image, *six_views(image))]
    found = [activation_of(vit, each) for each in seen]
    assert (render.activation, render.worst) == pytest.approx((found[0], min(found[1:])), abs=1e-5)


def test_the_activation_is_that_of_the_last_steps_crops_where_there_are_any(vit):
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe=CROPS, **QUICK)
    image = torch.from_numpy(render.image).permute(2, 0, 1)[None]
    numbers = Draws([stream_key(0, "blocks.1:7")], 3, CPU)
    crops = CROPS.transforms[0].apply(Views.of(image[:, None], (32, 32)), numbers.at(2, 1)).pixels[0]
    found = [activation_of(vit, each) for each in (crops, *six_views(crops))]
    assert (render.activation, render.worst) == pytest.approx((found[0], min(found[1:])), abs=1e-5)


def test_crops_excite_the_neuron():
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    still = replace(CROPS, optimizer=Adam(lr=1e-9), penalty=TotalVariation(0.0))
    moving, unmoved = (
        captum_vit.render(vit, "blocks.4:307", recipe=recipe, steps=12, size=64, progress=False)[0]
        for recipe in (replace(CROPS, redirect=0.5), still)
    )
    assert moving.history[-4:].mean() > unmoved.history[-4:].mean() + 0.05


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_under_autocast(vit, dtype):
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe=CROPS, dtype=dtype, **QUICK)
    assert render.image.shape == (96, 96, 3)
    assert np.isfinite(render.history).all()


def test_a_canvas_starts_from_a_photo(vit):
    still = replace(CROPS, optimizer=Adam(lr=1e-9), penalty=None)
    (render,) = captum_vit.render(vit, "blocks.1:3", recipe=still, start=CAT, **QUICK)
    photo = Image.open(CAT).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    expected = photo.resize((96, 96), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    assert np.abs(render.image - np.asarray(expected) / 255).mean() < 0.02


def test_the_canvas_is_part_of_what_is_kept(vit, tmp_path):
    plan = RenderPlan.of(vit, recipe=CROPS, steps=2)
    (made,) = render_into(tmp_path, vit, "blocks.1:3", plan, progress=False)
    before = (tmp_path / "blocks.1-3.json").stat().st_mtime_ns
    (again,) = render_into(tmp_path, vit, "blocks.1:3", plan, progress=False)
    assert (tmp_path / "blocks.1-3.json").stat().st_mtime_ns == before
    assert again.image.shape == made.image.shape == (96, 96, 3)
    (other,) = render_into(
        tmp_path, vit, "blocks.1:3", RenderPlan.of(vit, recipe=CROPS, steps=2, canvas=64), progress=False
    )
    assert other.image.shape == (64, 64, 3)


def test_the_command_has_a_canvas(tmp_path):
    made = CliRunner().invoke(
        app,
        ["render", "deit_micro", "blocks.1:3", "--recipe", "fourier", "--steps", "1", "--canvas", "96",
         "--out", str(tmp_path)],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    with Image.open(tmp_path / "blocks.1-3.png") as image:
        assert image.size == (96, 96)


# --- maco


def test_maco_is_the_authors_at_the_authors_size():
    """Horama's: 1280 pixels for 224, 6 crops of 0.25 to 0.3, noise of 0.05 in values from -2.5 to 2.5."""
    maco = RECIPES["maco"]
    assert canvas_pixels(maco.canvas, (224, 224)) == (1280, 1280)
    crops, noise = maco.transforms
    assert crops.crops == 6
    assert crops.sides == ((0.25 + 0.3) / 2,) * 2
    assert crops.spread == pytest.approx((0.3 - 0.25) / 12**0.5, rel=0.01)
    assert noise.std == pytest.approx(0.05 / 5 * (1 + 1 / 12) ** 0.5, rel=0.01)
    assert (maco.optimizer, maco.steps, maco.parametrization) == (NAdam(lr=1.0), 1000, Phases(spread=1.0))


def test_phases_have_one_spread_however_far_their_parameters_have_gone():
    phases, size = Phases(spread=1.0), (24, 20)
    start = phases.start(size, draws(2))
    decode = phases.decoder(size, CPU)
    torch.testing.assert_close(decode(5 * start + 3), decode(start), atol=1e-3, rtol=0)
    parameters = (5 * start).requires_grad_()
    (near,) = torch.autograd.grad(decode(start.requires_grad_()).square().sum(), start)
    (far,) = torch.autograd.grad(decode(parameters).square().sum(), parameters)
    torch.testing.assert_close(far, near / 5, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("size", [(512, 512), (300, 640)])
def test_a_large_canvas_has_as_much_of_each_frequency_as_a_small_one(size):
    small, large = (_magnitudes(default_photos()[:4], each) for each in ((256, 256), size))
    assert large.shape == (3, size[0], size[1] // 2 + 1)
    rows, columns = np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])
    for band in ((0.05, 0.1), (0.1, 0.2), (0.2, 0.4)):
        means = [
            spectrum[:, (band[0] < distance) & (distance < band[1])].mean()
            for spectrum, distance in (
                (small, np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))),
                (large, np.hypot(rows[:, None], columns)),
            )
        ]
        assert means[0] == pytest.approx(means[1], rel=0.05)
    assert large[:, 0, 0] / np.sqrt(size[0] * size[1]) == pytest.approx(small[:, 0, 0] / 256)


# --- what it costs


def largest_tensor(canvas, crops):
    """Elements of the largest tensor that a step's crops and noise make, forward and backward."""

    class Largest(Operations):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = super().__torch_dispatch__(function, types, args, kwargs)
            for each in result if isinstance(result, tuple) else (result,):
                if isinstance(each, torch.Tensor):
                    self.elements = max(self.elements, each.untyped_storage().nbytes() // each.element_size())
            return result

    images = canvases(canvas, canvas).requires_grad_()
    with Largest() as largest:
        views = RandomCrops(crops=crops, sides=(0.3, 0.3)).apply(Views.of(images, (32, 32)), draws())
        PixelNoise().apply(views, draws()).at_size((32, 32)).sum().backward()
    return largest.elements


def test_no_tensor_grows_with_the_canvas_times_the_crops():
    canvas, seen = 3 * 512**2, 8 * 3 * 32**2
    looks = int(np.ceil(512 * 0.45 / 32)) ** 2
    assert largest_tensor(512, 8) <= max(canvas, looks * seen)
    assert largest_tensor(512, 1) <= 1.01 * canvas
