"""Stock Lucent on adapted models, and this package's own loop, objectives and transforms beside it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from families import SIX_FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from lucent.optvis import objectives, param, render
from torch import nn

import captum_vit
from captum_vit.errors import AddressError

QUIET = {"show_image": False, "progress": False}


def seeded(render_vis, *args, **settings):
    torch.manual_seed(0)
    np.random.seed(0)
    return render_vis(*args, **QUIET, **settings)


def middle_site(vit):
    return vit.sites[len(vit.sites) // 2]


OBJECTIVES = {
    "string": lambda layer, units: objectives.as_objective(f"{layer}:2"),
    "neuron": lambda layer, units: objectives.neuron(layer, 2, x=0, y=0),
    "channel": lambda layer, units: objectives.channel(layer, 2),
    "neuron_weight": lambda layer, units: objectives.neuron_weight(layer, torch.ones(units), x=0, y=0, batch=0),
    "channel_weight": lambda layer, units: objectives.channel_weight(layer, torch.linspace(-1, 1, units)),
    "localgroup_weight": lambda layer, units: objectives.localgroup_weight(layer, torch.ones(units), x=0, y=0),
    "direction": lambda layer, units: objectives.direction(layer, torch.ones(units)),
    "direction_neuron": lambda layer, units: objectives.direction_neuron(layer, torch.ones(units), x=0, y=0),
    "blur_input_each_step": lambda layer, units: (
        objectives.channel(layer, 2) + 1e-3 * objectives.blur_input_each_step()
    ),
    "channel_interpolate": lambda layer, units: objectives.channel_interpolate(layer, 2, layer, 3),
    "alignment": lambda layer, units: objectives.alignment(layer),
    "diversity": lambda layer, units: objectives.diversity(layer),
}


def test_the_table_holds_every_objective_that_lucent_has():
    made_by_lucent = {
        name
        for name, f in vars(objectives).items()
        if hasattr(f, "__wrapped__") and f.__module__ == objectives.__name__
    }
    assert made_by_lucent - {"wrap_objective", "handle_batch"} == set(OBJECTIVES) - {"string"}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_stock_lucent_renders_every_objective_at_a_site(family, objective):
    tiny = SIX_FAMILIES[family]
    vit = captum_vit.adapt(tiny.build())
    site = middle_site(vit)
    height, width = tiny.image_size
    start, last = seeded(
        render.render_vis,
        vit,
        OBJECTIVES[objective](site.layer, site.units),
        lambda: param.image(width, h=height, batch=2),
        thresholds=(1, 3),
        fixed_image_size=tiny.image_size,
    )
    assert last.shape == (2, height, width, 3)
    assert np.isfinite(last).all()
    assert not np.array_equal(start, last), "the objective has no gradient on the image"


@pytest.mark.parametrize("family", SIX_FAMILIES)
@pytest.mark.parametrize("preprocess", [True, False])
def test_our_loop_gives_lucents_images_for_the_same_seeds(family, preprocess):
    tiny = SIX_FAMILIES[family]
    vit = captum_vit.adapt(tiny.build())
    site = middle_site(vit)
    arguments = (vit, objectives.channel(site.layer, 2) - 1e-2 * objectives.diversity(vit.sites[0].layer))
    options = {
        "param_f": lambda: param.image(48, batch=2),
        "thresholds": (1, 4),
        "fixed_image_size": tiny.image_size,
        "preprocess": preprocess,
    }
    lucents = seeded(render.render_vis, *arguments, **options)
    ours = seeded(captum_vit.render_vis, *arguments, **options)
    # Frozen weights let torch.matmul fold a batch in another way: a bit of rounding, in Twins' windowed attention
    # everywhere, in other families on some processors.
    for expected, image in zip(lucents, ours, strict=True):
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-6)


def test_our_defaults_are_lucents_for_a_224_pixel_model_with_imagenets_mean():
    model = timm.create_model("deit_tiny_patch16_224", depth=2, embed_dim=48, num_heads=3).eval()
    vit = captum_vit.adapt(model)
    expected = seeded(render.render_vis, vit, "ffn_blocks_1:2", thresholds=(3,))
    image = seeded(captum_vit.render_vis, vit, "blocks.1:2", thresholds=(3,))
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("objective", ["labels:1", "model_blocks_0_mlp_fc1:2"])
def test_our_loop_renders_whatever_lucent_renders(objective):
    tiny = SIX_FAMILIES["deit"]
    vit = captum_vit.adapt(tiny.build())
    options = {"param_f": lambda: param.image(32), "thresholds": (2,), "fixed_image_size": tiny.image_size}
    expected = seeded(render.render_vis, vit, objective, preprocess=True, **options)
    np.testing.assert_array_equal(seeded(captum_vit.render_vis, vit, objective, preprocess=True, **options), expected)


def test_labels_are_the_models_output_even_where_its_last_module_is_not_the_classifier():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = SIX_FAMILIES["deit"].build()
            self.unrelated = nn.Identity()

        def forward(self, images):
            return self.vit(self.unrelated(images))

    model = Backwards().eval()
    images = torch.rand(1, 3, *SIX_FAMILIES["deit"].image_size)
    vit = captum_vit.adapt(model)
    hook = render.hook_model(vit, lambda: images)
    expected = vit(images)
    assert torch.equal(hook("labels"), expected)


def test_a_render_reads_no_more_of_the_model_than_its_objective_needs():
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    ran = []
    for index, block in enumerate(vit.model.blocks):
        block.register_forward_hook(lambda module, args, output, index=index: ran.append(index))
    seeded(captum_vit.render_vis, vit, "blocks.1:2", thresholds=(4,))
    # One whole pass finds out what the objective reads; the other three end inside block 1.
    assert ran == [*range(len(vit.model.blocks)), 0, 0, 0]


def test_until_stops_stock_lucents_loop_early_with_the_same_images():
    tiny = SIX_FAMILIES["deit"]
    vit = captum_vit.adapt(tiny.build())
    ran = []
    vit.model.blocks[2].register_forward_hook(lambda *_: ran.append(2))
    options = {"param_f": lambda: param.image(32), "thresholds": (3,), "fixed_image_size": tiny.image_size}
    expected = seeded(render.render_vis, vit, "ffn_blocks_1:2", **options)
    assert ran
    ran.clear()
    with vit.until("blocks.1"):
        image = seeded(render.render_vis, vit, "ffn_blocks_1:2", **options)
    np.testing.assert_array_equal(image, expected)
    assert not ran


def test_a_render_leaves_weights_and_hooks_as_they_were():
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    frozen = vit.model.patch_embed.proj.weight.requires_grad_(False)
    hooks = [len(module._forward_hooks) for module in vit.modules()]

    def fail(step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        seeded(captum_vit.render_vis, vit, "blocks.1:2", thresholds=(4,), callback=fail)
    assert not frozen.requires_grad
    assert vit.model.head.weight.requires_grad
    assert all(parameter.grad is None for parameter in vit.parameters())
    assert [len(module._forward_hooks) for module in vit.modules()] == hooks


def test_by_default_images_are_normalized_as_the_model_was_trained():
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=48, num_heads=3, img_size=32).eval()
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    vit = captum_vit.adapt(model)
    entered = []
    model.patch_embed.register_forward_pre_hook(lambda module, args: entered.append(args[0].detach()))
    gray = torch.full((1, 3, 32, 32), 0.75, requires_grad=True)
    seeded(
        captum_vit.render_vis,
        vit,
        "blocks.0:2",
        lambda: ([gray], lambda: gray),
        optimizer=lambda params: torch.optim.SGD(params, lr=0.0),
        transforms=[],
        thresholds=(1,),
    )
    torch.testing.assert_close(entered[0], torch.full((1, 3, 32, 32), 0.5))


def test_renders_come_in_the_models_own_size():
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    (image,) = seeded(captum_vit.render_vis, vit, "blocks.1:2", thresholds=(1,))
    assert image.shape[1:3] == vit.preprocessing.size


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("blocks.99:2", 'no site "blocks.99"'),
        ("ffn_blocks_1:9999", "no unit 9999"),
        ("blocks.1", "is not an address"),
        (objectives.channel("ffn_block_1", 2), "did you mean ffn_blocks_1"),
    ],
)
def test_a_wrong_objective_is_told_before_a_long_render(objective, message):
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    with pytest.raises(AddressError, match=message):
        seeded(captum_vit.render_vis, vit, objective, thresholds=(512,))


def test_an_image_of_the_wrong_size_is_an_error_in_stock_lucent_too():
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    with pytest.raises(AssertionError, match="doesn't match model"):
        seeded(render.render_vis, vit, "ffn_blocks_1:2", lambda: param.image(40), thresholds=(1,))


class TestObjectives:
    @pytest.fixture
    def vit(self):
        return captum_vit.adapt(SIX_FAMILIES["deit"].build())

    @staticmethod
    def layers(vit, images):
        outputs = render.hook_model(vit, lambda: images)
        vit(images)
        return outputs

    def test_a_patch_is_one_cell_of_the_patch_map(self, vit):
        images = torch.rand(2, 3, *vit.preprocessing.size)
        patch_map = vit.patch_map(images, "blocks.1:2")
        loss = captum_vit.objectives.patch("blocks.1", 2, row=0, column=1)(self.layers(vit, images))
        torch.testing.assert_close(loss, -patch_map[:, 0, 1].mean())

    def test_a_prefix_token_is_the_hidden_activation_of_that_token(self, vit):
        images = torch.rand(2, 3, *vit.preprocessing.size)
        layers = self.layers(vit, images)
        tokens = []
        vit.model.blocks[1].mlp.fc2.register_forward_pre_hook(lambda module, args: tokens.append(args[0]))
        vit(images)
        loss = captum_vit.objectives.prefix_token("blocks.1", 5)(layers)
        torch.testing.assert_close(loss, -tokens[0][:, 0, 5].mean())

    @settings(max_examples=20, deadline=None)
    @given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), st.integers(0, 2**16))
    def test_total_variation_sums_the_mean_norms_of_four_differences(self, height, width, batch, seed):
        image = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
        expected = torch.tensor(0.0)
        for down, right in [(0, 1), (1, 0), (1, 1), (1, -1)]:
            norms = []
            for plane in image.flatten(0, 1):
                squares = [
                    (plane[y + down, x + right] - plane[y, x]) ** 2
                    for y in range(height - down)
                    for x in range(max(0, -right), width - max(0, right))
                ]
                norms.append(torch.stack(squares).sum().sqrt())
            expected = expected + torch.stack(norms).mean()
        loss = captum_vit.objectives.total_variation()(lambda layer: image)
        torch.testing.assert_close(loss, expected)

    def test_they_add_and_scale_with_lucents_own_and_pick_an_image_of_the_batch(self, vit):
        images = torch.rand(2, 3, *vit.preprocessing.size)
        layers = self.layers(vit, images)
        ours = captum_vit.objectives.patch("ffn_blocks_1", 2, row=1, column=1, batch=1)
        both = objectives.channel("ffn_blocks_1", 3) - 2 * ours
        expected = objectives.channel("ffn_blocks_1", 3)(layers) - 2 * ours(layers)
        torch.testing.assert_close(both(layers), expected)
        torch.testing.assert_close(ours(layers), -vit.patch_map(images, "blocks.1:2")[1, 1, 1])

    @pytest.mark.parametrize(
        ("objective", "message"),
        [(lambda o: o.patch("blocks.1", 2, row=99, column=0), "no patch"),
         (lambda o: o.prefix_token("blocks.1", 2, token=7), "no prefix token 7")],
    )  # fmt: skip
    def test_a_place_that_is_not_there_is_an_error(self, vit, objective, message):
        layers = self.layers(vit, torch.rand(1, 3, *vit.preprocessing.size))
        with pytest.raises(AddressError, match=message):
            objective(captum_vit.objectives)(layers)

    def test_total_variation_makes_a_render_smoother(self, vit):
        total_variation = captum_vit.objectives.total_variation()

        def roughness(objective):
            pixels = lambda: param.image(*reversed(vit.preprocessing.size), fft=False, sd=1.0)  # noqa: E731
            (image,) = seeded(captum_vit.render_vis, vit, objective, pixels, transforms=[], thresholds=(30,))
            return total_variation(lambda layer: torch.from_numpy(image).permute(0, 3, 1, 2))

        channel = objectives.channel("ffn_blocks_1", 2)
        assert roughness(channel + total_variation) < 0.9 * roughness(channel)


class TestTransforms:
    def test_an_ensemble_repeats_each_image_in_place(self):
        images = torch.arange(2.0).view(2, 1, 1, 1)
        assert captum_vit.transforms.ensemble(3)(images).flatten().tolist() == [0, 0, 0, 1, 1, 1]

    def test_a_colour_shift_is_affine_and_differs_by_copy_and_channel(self):
        torch.manual_seed(0)
        ramp = torch.linspace(0, 1, 8).expand(4, 3, 1, 8)
        shifted = captum_vit.transforms.color_shift()(ramp)
        slope = (shifted[..., 1:] - shifted[..., :-1]) * 7
        torch.testing.assert_close(slope, slope[..., :1].expand_as(slope))
        assert torch.unique(slope[..., 0]).numel() == 12
        assert (slope > np.exp(-1) - 1e-4).all()
        assert (slope < np.exp(1) + 1e-4).all()
        offset = -shifted[..., 0] / slope[..., 0]
        assert (offset.abs() <= 1 + 1e-4).all()

    def test_noise_falls_linearly_to_nothing(self):
        torch.manual_seed(0)
        noise = captum_vit.transforms.gaussian_noise(std=0.5, steps=4)
        drawn = [noise(torch.zeros(20000, 3, 1, 2)) for _ in range(6)]
        np.testing.assert_allclose([d.std().item() for d in drawn], [0.5, 0.375, 0.25, 0.125, 0, 0], rtol=0.02)
        assert all(torch.equal(d[..., 0], d[..., 1]) for d in drawn), "one draw should hold for a whole channel"

    def test_a_circular_shift_loses_no_pixel_and_moves_all_images_alike(self):
        torch.manual_seed(0)
        images = torch.arange(64.0).view(1, 1, 8, 8).repeat(2, 1, 1, 1)
        shifted = captum_vit.transforms.circular_shift(3)(images)
        assert torch.equal(shifted[0], shifted[1])
        assert torch.equal(shifted.flatten().sort().values, images.flatten().sort().values)
        assert not torch.equal(shifted, images)

    def test_they_work_in_stock_lucent(self):
        tiny = SIX_FAMILIES["deit"]
        vit = captum_vit.adapt(tiny.build())
        t = captum_vit.transforms
        (image,) = seeded(
            render.render_vis,
            vit,
            "ffn_blocks_1:2",
            lambda: param.image(32),
            transforms=[t.ensemble(2), t.color_shift(), t.gaussian_noise(steps=3), t.circular_shift(4)],
            thresholds=(3,),
            fixed_image_size=tiny.image_size,
        )
        assert np.isfinite(image).all()


# What torch-lucent brings and nothing else does.
LUCENTS = ("lucent", "kornia", "IPython", "sklearn", "pytest", "coveralls", "coverage", "decorator", "future")
WITHOUT = f"""
import sys
sys.modules |= dict.fromkeys({LUCENTS})  # importing one of them is an error
import captum_vit
names = [getattr(captum_vit, name) for name in captum_vit.__all__]
vit = captum_vit.adapt(captum_vit.load("deit_micro"))
smooth = captum_vit.objectives.patch("blocks.1", 2, 0, 0) + 5e-4 * captum_vit.objectives.total_variation()
renders = captum_vit.render(vit, ["blocks.1:2", smooth], steps=2, progress=False)
print([render.neuron for render in renders])
try:
    captum_vit.render_vis(vit, "blocks.1:2")
except captum_vit.errors.MissingLibraryError as error:
    print(error)
"""


def test_renders_need_no_lucent_and_its_loop_says_how_to_get_it():
    printed = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    renders, told = printed.strip().splitlines()
    assert renders == "['blocks.1:2', 'Sum(Patch [blocks.1, 2, 0, 0] + Total_Variation [])']"
    assert 'pip install "captum-vit[lucent]"' in told


@pytest.mark.parametrize("ours_first", [True, False])
def test_our_objectives_are_added_to_lucents_scaled_and_negated(ours_first):
    layers = {"ffn_blocks_1": torch.arange(8.0).reshape(1, 2, 2, 2), "input": torch.zeros(1, 3, 4, 4)}.__getitem__
    ours, lucents = captum_vit.objectives.patch("blocks.1", 1, 1, 1), objectives.channel("ffn_blocks_1", 0)
    first, second = (ours, lucents) if ours_first else (lucents, ours)
    # The unit 1 is 7 at its last patch, the unit 0 on average 1.5; both are losses, so negative.
    assert (first + 2 * second)(layers) == (-7 - 2 * 1.5 if ours_first else -1.5 - 2 * 7)
    assert (first - second / 2)(layers) == (-7 + 1.5 / 2 if ours_first else -1.5 + 7 / 2)
    assert (-first + 1)(layers) == (8 if ours_first else 2.5)
    assert (first + second).name == f"{first.name}, {second.name}"
    assert [part in (first + second).description for part in (ours.description, lucents.description)] == [True, True]
    with pytest.raises(TypeError):
        first * second
