"""The render loop: the paper's recipe to the letter, neurons that do not disturb each other, and honest results."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import SIX_FAMILIES
from lucent.optvis import objectives
from PIL import Image

import captum_vit
from captum_vit import Recipe
from captum_vit.errors import AddressError, RecipeError
from captum_vit.optvis import parametrizations
from captum_vit.optvis.optimizers import TorchOptimizer
from captum_vit.optvis.parametrizations import Fourier, Phases, Pixels
from captum_vit.optvis.randomness import Draws, stream_key
from captum_vit.optvis.recipes import RECIPES
from captum_vit.optvis.transforms import Ensemble

QUICK = {"steps": 4, "progress": False}


CPU = torch.device("cpu")


def start_draws(*names):
    return Draws([stream_key(0, name) for name in names], 1, CPU).at(0, 0)


@pytest.fixture
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


def papers_recipe_in_a_plain_loop(model, block, unit, seed, address, steps):
    """Section 3 and appendix of Ghiasi et al. (2022), one neuron of a plain ViT: of the package, the numbers only."""
    draws = Draws([stream_key(seed, address)], steps, torch.device("cpu"))
    size = model.patch_embed.img_size
    image = draws.at(0, 0).uniform(3, *size).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.1, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.0)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    hidden = {}
    handle = model.blocks[block].mlp.act.register_forward_hook(lambda m, i, output: hidden.update(tokens=output))
    for step in range(steps):
        optimizer.zero_grad()
        shift, log_scale = draws.at(step, 2).uniform(2, 8, 3, 1, 1)[0] * 2 - 1
        copies = (image.repeat(8, 1, 1, 1) - shift) / log_scale.exp()
        copies = copies + draws.at(step, 3).normal(8, 3, 1, 1)[0] * 0.5 * (1 - step / steps)
        down, right = draws.at(step, 4).integers(-32, 32, 2)[0].tolist()
        copies = torch.roll(copies, (down, right), (2, 3))
        model((copies - mean) / std)
        activation = hidden["tokens"][:, model.num_prefix_tokens :, unit].mean()
        variation = sum(
            (copies[:, :, y1, x1] - copies[:, :, y0, x0]).flatten(2).norm(dim=2).mean()
            for y1, x1, y0, x0 in [
                (slice(None), slice(1, None), slice(None), slice(None, -1)),
                (slice(1, None), slice(None), slice(None, -1), slice(None)),
                (slice(1, None), slice(1, None), slice(None, -1), slice(None, -1)),
                (slice(1, None), slice(None, -1), slice(None, -1), slice(1, None)),
            ]
        )
        (-activation + 0.0005 * variation).backward()
        optimizer.step()
        schedule.step()
        image.data.clamp_(0, 1)
    handle.remove()
    return image.detach()[0].permute(1, 2, 0).numpy()


def test_ghiasi2022_is_the_papers_recipe():
    model = SIX_FAMILIES["deit"].build()
    expected = papers_recipe_in_a_plain_loop(model, block=1, unit=7, seed=3, address="blocks.1:7", steps=20)
    image = captum_vit.render(
        captum_vit.adapt(model), "blocks.1:7", recipe="ghiasi2022", seed=3, steps=20, progress=False
    ).images[0]
    np.testing.assert_allclose(image, expected, atol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_neurons_image_depends_neither_on_its_company_nor_on_the_batch_size(vit, recipe):
    alone = captum_vit.render(vit, "blocks.1:7", recipe=recipe, **QUICK)
    company = ["blocks.2:1", "blocks.1:7", "blocks.0:2"]
    together = captum_vit.render(vit, company, recipe=recipe, **QUICK)
    in_pairs = captum_vit.render(vit, company, recipe=recipe, batch_size=2, **QUICK)
    assert [render.neuron for render in together] == company
    np.testing.assert_allclose(together[1].image, alone[0].image, atol=1e-4)
    np.testing.assert_allclose(in_pairs.images, together.images, atol=1e-4)
    np.testing.assert_allclose(in_pairs.history, together.history, atol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_seed_gives_the_same_image_and_another_seed_another(vit, recipe):
    first, again = (captum_vit.render(vit, "blocks.1:7", recipe=recipe, **QUICK).images for _ in range(2))
    other = captum_vit.render(vit, "blocks.1:7", recipe=recipe, seed=1, **QUICK).images
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1e-3


def test_it_works_with_deterministic_algorithms(vit):
    torch.use_deterministic_algorithms(True)
    try:
        for recipe in RECIPES:
            captum_vit.render(vit, "blocks.1:7", recipe=recipe, **QUICK)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_callers_random_numbers_are_left_alone(vit):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    captum_vit.render(vit, "blocks.1:7", recipe="lucent", **QUICK)
    assert (torch.rand(1), np.random.rand()) == expected


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_every_family_renders_and_excites_its_neuron(family):
    tiny = SIX_FAMILIES[family]
    vit = captum_vit.adapt(tiny.build())
    site = vit.sites[len(vit.sites) // 2]
    recipe = replace(RECIPES["ghiasi2022"], transforms=(), penalty=None)
    renders = captum_vit.render(vit, f"{site.name}:3", recipe=recipe, steps=12, size=tiny.image_size, progress=False)
    assert renders.images.shape == (1, *tiny.image_size, 3)
    assert 0 <= renders.images.min() <= renders.images.max() <= 1
    assert renders[0].activation > renders[0].start


def test_the_final_activation_is_that_of_the_image_without_transforms(vit):
    (render,) = captum_vit.render(vit, "blocks.1:7", **QUICK)
    image = torch.from_numpy(render.image).permute(2, 0, 1)[None]
    expected = vit.neuron("blocks.1:7")(vit.preprocessing.normalize(image)).item()
    assert render.activation == pytest.approx(expected, abs=1e-5)
    assert render.history.shape == (4,)


def test_lucents_objectives_render_too(vit):
    objective = objectives.channel("ffn_blocks_1", 7) - 0.1 * objectives.channel("ffn_blocks_2", 3)
    both = captum_vit.render(vit, [objective, "blocks.1:7"], recipe="lucent", **QUICK)
    assert "ffn_blocks_1" in both[0].neuron
    alone = captum_vit.render(vit, objective, recipe="lucent", **QUICK)
    np.testing.assert_allclose(both[0].image, alone[0].image, atol=1e-4)


def test_an_objective_sees_its_own_images_only(vit):
    seen = []

    def objective(layers):
        seen.append((len(layers("input")), len(layers("ffn_blocks_1"))))
        return -layers("ffn_blocks_1")[:, 7].mean()

    captum_vit.render(vit, ["blocks.0:1", objective, "blocks.2:1"], recipe="ghiasi2022", **QUICK)
    assert set(seen) == {(1, 8), (1, 1)}  # eight copies a step; the finished image by itself


def test_one_bad_neuron_is_reported_and_stops_no_other(vit):
    calls = []

    def overflows(layers):
        calls.append(1)
        loss = -layers("ffn_blocks_1")[:, 7].mean()
        return loss * torch.inf if len(calls) == 2 else loss

    renders = captum_vit.render(vit, ["blocks.1:7", overflows], **QUICK)
    alone = captum_vit.render(vit, "blocks.1:7", **QUICK)
    np.testing.assert_allclose(renders[0].image, alone[0].image, atol=1e-4)
    assert renders[0].problem is None
    assert renders[1].problem == "the loss or its gradient was not finite in 1 of 4 steps, first in step 2"
    assert np.isfinite(renders[1].image).all()
    assert list(renders.problems.values()) == [renders[1].problem]


def test_a_neuron_without_gradient_is_reported(vit):
    (render,) = captum_vit.render(vit, lambda layers: 0.0 * layers("ffn_blocks_1").sum(), recipe="lucent", **QUICK)
    assert "never changed" in render.problem


def test_a_dead_neuron_is_reported(vit):
    vit.model.blocks[1].mlp.fc1.bias.data[7] = -1e4  # GELU gives zero, whatever the image
    (render,) = captum_vit.render(vit, "blocks.1:7", **QUICK)
    assert render.problem == "dead: the activation stayed at exactly 0 throughout 4 steps"


def test_a_neuron_that_a_few_steps_did_not_excite_is_not_called_dead(vit):
    wrong_way = TorchOptimizer(torch.optim.SGD, {"lr": 10.0, "maximize": True})
    recipe = replace(RECIPES["lucent"], optimizer=wrong_way, transforms=())
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe=recipe, steps=1, progress=False)
    assert render.activation < render.start
    assert render.problem.startswith("not excited: after 1 step the activation is")


def test_a_neuron_that_was_only_silenced_is_reported(vit):
    # GELU dips below zero: from there, the way up that gradients see leads to zero and not to excitement.
    vit.model.blocks[0].mlp.fc1.weight.data[7] *= 1e-2
    vit.model.blocks[0].mlp.fc1.bias.data[7] = -1.5
    (render,) = captum_vit.render(vit, "blocks.0:7", recipe="fourier", **QUICK)
    assert render.start < render.activation < 0
    assert "silenced" in render.problem


def test_a_users_own_recipe_is_the_same_object(vit):
    recipe = Recipe(
        name="mine",
        parametrization=Fourier(sd=0.1),
        transforms=(Ensemble(2),),
        optimizer=TorchOptimizer(torch.optim.SGD, {"lr": 1.0}),
        steps=3,
        source="here",
    )
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe=recipe, progress=False)
    assert render.history.shape == (3,)
    assert render.settings["recipe"] == "mine"


def test_size_autocast_and_callback(vit):
    heard = []
    renders = captum_vit.render(
        vit, ["blocks.1:7", "blocks.1:8"], size=(40, 48), dtype=torch.bfloat16, batch_size=1,
        callback=lambda done, total: heard.append((done, total)), **QUICK,
    )  # fmt: skip
    assert renders.images.shape == (2, 40, 48, 3)
    assert renders[0].settings["dtype"] == "bfloat16"
    assert heard == [(done, 8) for done in range(1, 9)]


@pytest.mark.parametrize("parametrization", [Pixels(), Fourier(), Phases()])
def test_parametrizations_give_valid_images_of_odd_sizes(parametrization):
    size = (15, 18)
    images = parametrization.decoder(size, CPU)(parametrization.start(size, start_draws("a", "b")))
    assert images.shape == (2, 3, *size)
    assert 0 <= images.min() <= images.max() <= 1
    assert not torch.equal(images[0], images[1])


def test_phases_keep_the_magnitudes_of_photos():
    phases = Phases()
    one, two = torch.logit(phases.decoder((32, 32), CPU)(phases.start((32, 32), start_draws("a", "b")))).split(1)
    color = torch.linalg.inv(torch.tensor(parametrizations._COLOR, dtype=torch.float32))
    spectra = [
        torch.fft.rfft2(torch.einsum("ij,njhw->nihw", color, image), norm="ortho").abs()[..., 1:-1]
        for image in (one, two)
    ]
    torch.testing.assert_close(*spectra, rtol=1e-2, atol=1e-3)
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(
    ("neuron", "recipe", "error", "message"),
    [
        ("blocks.9:1", "ghiasi2022", AddressError, "no site"),
        ("blocks.1:9999", "ghiasi2022", AddressError, "no unit"),
        ("blocks.1:1", "ghiasi2023", RecipeError, "ghiasi2022, fourier, steady, lucent, maco"),
    ],
)
def test_wrong_arguments_are_told_at_once(vit, neuron, recipe, error, message):
    with pytest.raises(error, match=message):
        captum_vit.render(vit, neuron, recipe=recipe)


class TestRenders:
    def test_saving_writes_pngs_records_and_a_contact_sheet(self, vit, tmp_path):
        renders = captum_vit.render(vit, ["blocks.1:7", "blocks.2:3"], **QUICK)
        paths = renders.save(tmp_path / "new")
        names = {path.name for path in (tmp_path / "new").iterdir()}
        assert names == {
            "blocks.1-7.png", "blocks.1-7.json", "blocks.2-3.png", "blocks.2-3.json", "contact-sheet.png",
        }  # fmt: skip
        with Image.open(paths[0]) as image:
            np.testing.assert_allclose(np.asarray(image) / 255, renders[0].image, atol=0.5 / 255 + 1e-6)
        record = json.loads(paths[0].with_suffix(".json").read_text())
        assert record["neuron"] == "blocks.1:7"
        assert len(record["history"]) == 4
        assert record["settings"]["steps"] == 4
        assert record["settings"]["seed"] == 0
        assert "torch" in record["settings"]["versions"]

    def test_a_failed_write_leaves_nothing_behind(self, vit, tmp_path, monkeypatch):
        renders = captum_vit.render(vit, "blocks.1:7", **QUICK)

        def full(*args, **kwargs):
            raise OSError("No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space left"):
            renders.save(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_notebooks_show_pictures_and_print_tells_what_there_is(self, vit):
        renders = captum_vit.render(vit, ["blocks.1:7", "blocks.2:3"], size=96, **QUICK)
        picture = Image.open(io.BytesIO(renders._repr_png_()))
        assert picture.size[0] == 2 * 96 + 4
        assert picture.size[1] > 96, "addresses stand below the images"
        below = np.asarray(picture.convert("L"))[96:]
        assert (below < 128).any()
        assert repr(renders) == "Renders(blocks.1:7, blocks.2:3)"
        shown = Image.open(io.BytesIO(renders[0]._repr_png_()))
        np.testing.assert_array_equal(np.asarray(shown), (renders[0].image * 255).round().astype(np.uint8))
        assert repr(renders[0]).startswith("Render(blocks.1:7, 96x96, activation ")

    def test_the_contact_sheet_shows_every_image(self, vit):
        renders = captum_vit.render(vit, [f"blocks.1:{unit}" for unit in range(3)], **QUICK)
        height, width = vit.preprocessing.size
        sheet = renders.grid(columns=2, gap=4)
        assert sheet.shape == (2 * height + 4, 2 * width + 4, 3)
        np.testing.assert_array_equal(sheet[:height, width + 4 :], renders[1].image)
        np.testing.assert_array_equal(sheet[height + 4 :, :width], renders[2].image)
        assert (sheet[height + 4 :, width + 4 :] == 1).all()
