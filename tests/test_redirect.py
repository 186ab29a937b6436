"""Redirected gradients: exact outputs, a way out of silence at the target site only, and nothing left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import TINY_MODELS, plain
from lucent.optvis import param
from lucent.optvis import render as lucent
from timm.layers import GluMlp, SwiGLU
from torch import Tensor, nn

import captum_vit
from captum_vit import Adapter, PatchGrid, feed_forward
from captum_vit.errors import RedirectError
from captum_vit.optvis.recipes import find_recipe
from captum_vit.optvis.transforms import Ensemble

every_model = pytest.mark.parametrize("name", TINY_MODELS)


def gradient(vit, images: Tensor, name: str, unit: int = 3) -> Tensor:
    images = images.clone().requires_grad_()
    with vit.until(name):
        loss = vit(images)[:, unit].mean()
    return torch.autograd.grad(loss, images)[0]


def build(name: str) -> nn.Module:
    """A tiny model whose gates, which start near one, are open and closed as a trained model's are."""
    model = TINY_MODELS[name].build()
    for module in model.modules():
        if isinstance(module, GluMlp | SwiGLU):
            gate = module.fc1_g if isinstance(module, SwiGLU) else module.fc1
            nn.init.normal_(gate.weight, std=0.5)
            nn.init.zeros_(gate.bias)
    return model


def hooks_on(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


@every_model
def test_what_a_pass_gives_is_exact_at_every_site_of_every_kind_of_block(name):
    tiny = TINY_MODELS[name]
    images = torch.randn(2, 3, *tiny.image_size)
    vit = captum_vit.adapt(tiny.build())
    before, hooks = vit(images), hooks_on(vit.model)
    with vit.redirected([site.name for site in vit.sites]):
        assert torch.equal(vit(images), before)
    assert torch.equal(vit(images), before)
    assert hooks_on(vit.model) == hooks


class Straight(nn.Module):
    """By hand: the function's value, and a slope of one where its input is negative."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        below, value = (x < 0).to(x.dtype), self.function(x)
        return value * (1 - below) + (value.detach() + x - x.detach()) * below


@every_model
def test_a_silent_neuron_has_a_slope_of_one_and_one_that_speaks_anywhere_in_its_image_its_own_gradient(name):
    tiny = TINY_MODELS[name]
    images = torch.randn(2, 3, *tiny.image_size)
    model = build(name)
    vit = captum_vit.adapt(model)
    site = vit.sites[len(vit.sites) // 2]
    if sum(each.activation is site.activation for each in vit.sites) > 1:
        pytest.skip("by hand this cannot tell its calls apart")
    layout, grid, seen = site.layout, site.grid(tiny.image_size), []

    def silence_the_first_image(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = args
        shape = [1] * x.ndim
        shape[layout.batch_axis] = x.shape[layout.batch_axis]
        loudness = torch.zeros(shape, dtype=x.dtype)
        loudness.narrow(layout.batch_axis, 0, x.shape[layout.batch_axis] // 2).fill_(-30)
        seen.append(x + loudness)
        return (seen[-1],)

    silencer = site.activation.register_forward_pre_hook(silence_the_first_image)
    vit(images)
    (inputs,) = seen
    signs = layout.to_map(layout.split(layout.own(inputs))[1], site.units, grid).sign()
    assert (signs[0] < 0).all()
    unit = int((signs[1].amin(dim=(1, 2)) < signs[1].amax(dim=(1, 2))).nonzero()[0])

    exact = gradient(vit, images, site.name, unit)
    with vit.redirected(site.name):
        redirected = gradient(vit, images, site.name, unit)
    place = next(path for path, module in model.named_modules() if module is site.activation)
    parent, _, child = place.rpartition(".")
    silencer.remove()
    straight = Straight(site.activation)
    straight.register_forward_pre_hook(silence_the_first_image)
    setattr(model.get_submodule(parent), child, straight)
    by_hand = gradient(vit, images, site.name, unit)
    torch.testing.assert_close(redirected[0], by_hand[0])
    assert not torch.allclose(redirected[0], exact[0])
    torch.testing.assert_close(redirected[1], exact[1])
    assert not torch.allclose(by_hand[1], exact[1])


@pytest.mark.parametrize("activation", [nn.GELU, nn.ReLU, nn.SiLU, nn.Hardswish, nn.Mish, nn.ELU])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_neuron_that_is_silent_everywhere_gets_a_gradient(activation, inplace):
    if inplace and activation in (nn.GELU,):
        pytest.skip("never computes in place")
    model = plain().build()
    for block in model.blocks:
        block.mlp.act = activation(inplace=True) if inplace else activation()
        nn.init.constant_(block.mlp.fc1.bias, -30.0)
    vit, images = captum_vit.adapt(model), torch.randn(2, 3, 32, 32)
    before = vit(images)
    silent = gradient(vit, images, "blocks.1")
    assert silent.abs().max() < 1e-6
    with vit.redirected("blocks.1"):
        assert gradient(vit, images, "blocks.1").abs().max() > 1e-5
        assert torch.equal(vit(images), before)


def silent_model() -> nn.Module:
    """A model whose neurons of blocks 0 and 1 are silent everywhere."""
    model = plain().build()
    for block in model.blocks[:2]:
        nn.init.constant_(block.mlp.fc1.bias, -30.0)
    return model


def test_other_sites_keep_their_gradients():
    vit, images = captum_vit.adapt(silent_model()), torch.randn(2, 3, 32, 32)
    expected = gradient(vit, images, "blocks.1")
    with vit.redirected("blocks.2"):
        assert torch.equal(gradient(vit, images, "blocks.1"), expected)
    with vit.redirected("blocks.1"):
        assert not torch.equal(gradient(vit, images, "blocks.1"), expected)


def test_a_neuron_is_silent_if_it_is_where_the_loss_looks():
    """One patch of the image speaks; a loss that looks elsewhere still finds its way out of silence."""
    model = plain().build()
    vit, image = captum_vit.adapt(model), torch.randn(1, 3, 32, 32)
    speaking = []
    with torch.no_grad():
        model.blocks[1].mlp.fc1.register_forward_hook(
            lambda module, args, output: speaking.append(output[0, 1:, 3]) or output
        )
        vit(image)
        # All but the loudest patch of unit 3 fall below zero.
        model.blocks[1].mlp.fc1.bias[3] -= speaking[0].topk(2).values.mean()

    def gradient_at(place: int) -> Tensor:
        images = image.clone().requires_grad_()
        with vit.until("blocks.1"):
            loss = vit(images)[0, 3].flatten()[place]
        return torch.autograd.grad(loss, images)[0]

    loudest = int(speaking[0].argmax())
    for place in (loudest, (loudest + 1) % len(speaking[0])):
        exact = gradient_at(place)
        with vit.redirected("blocks.1"):
            assert torch.equal(gradient_at(place), exact) == (place == loudest)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_too(dtype):
    vit, images = captum_vit.adapt(silent_model()), torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype):
        before = vit(images)
        with vit.redirected("blocks.1"):
            assert torch.equal(vit(images), before)
            redirected = gradient(vit, images, "blocks.1")
    with vit.redirected("blocks.1"):
        in_full = gradient(vit, images, "blocks.1")
    assert torch.nn.functional.cosine_similarity(redirected.flatten(), in_full.flatten(), dim=0) > 0.98


def recipe(redirect: float, copies: int = 1):
    fourier = find_recipe("fourier")
    transforms = (Ensemble(copies), *fourier.transforms)
    return replace(fourier, name="redirected", redirect=redirect, steps=6, transforms=transforms)


@pytest.mark.parametrize(
    ("name", "copies"), [("deit", 2), ("coat", 1), ("swin", 2), ("vit_glu", 1), ("vit_parallel_scaling_fused", 1)]
)
def test_many_neurons_of_many_sites_render_as_each_would_alone(name, copies):
    vit = captum_vit.adapt(build(name))
    for site in vit.sites:
        site.activation.register_forward_pre_hook(lambda module, args: (args[0] - 3,))  # silent everywhere
    neurons = [f"{site.name}:{unit}" for site in vit.sites for unit in (3, 5)]
    together = captum_vit.render(vit, neurons, recipe=recipe(0.5, copies), batch_size=len(neurons), progress=False)
    for neuron, among in zip(neurons, together, strict=True):
        (alone,) = captum_vit.render(vit, neuron, recipe=recipe(0.5, copies), progress=False)
        assert abs(alone.image - among.image).max() < 2e-3, neuron
    exact = captum_vit.render(vit, neurons, recipe=recipe(0.0, copies), batch_size=len(neurons), progress=False)
    assert abs(exact.images - together.images).max() > 1e-3


def test_only_the_share_of_the_steps_that_was_asked_for_is_redirected(monkeypatch):
    vit = captum_vit.adapt(plain().build())
    asked = []
    from captum_vit.optvis.losses import NeuronLosses

    plainly = NeuronLosses.redirect
    monkeypatch.setattr(NeuronLosses, "redirect", lambda losses, on: (asked.append(on), plainly(losses, on))[1])
    captum_vit.render(vit, "blocks.1:3", recipe=recipe(0.5), progress=False)
    assert asked[:6] == [True] * 3 + [False] * 3


def test_a_render_of_a_silent_neuron_ends_excited():
    model = plain(act_layer=nn.ReLU).build()
    nn.init.constant_(model.blocks[1].mlp.fc1.bias, -0.1)
    vit = captum_vit.adapt(model)
    without, redirected = (
        captum_vit.render(vit, "blocks.1:3", recipe=replace(recipe(share), penalty=None), steps=60, progress=False)[0]
        for share in (0.0, 1.0)
    )
    assert without.activation == 0
    assert redirected.activation > 0


def test_in_stock_lucents_loop():
    model = plain().build()
    nn.init.constant_(model.blocks[1].mlp.fc1.bias, -30.0)
    vit = captum_vit.adapt(model, any_size=True)

    def image() -> Tensor:
        torch.manual_seed(0)
        settings = {"thresholds": (2,), "show_image": False, "progress": False, "transforms": []}
        (result,) = lucent.render_vis(vit, "ffn_blocks_1:3", lambda: param.image(32), **settings)
        return torch.from_numpy(result)

    silent = image()
    with vit.redirected("blocks.1"):
        assert not torch.allclose(image(), silent)


class Elsewhere(Adapter):
    """Names as its activation a function that computes on something else, or none at all."""

    family = "elsewhere"

    def __init__(self, named: bool) -> None:
        self.named = named

    def serves(self, model: nn.Module) -> bool:
        return hasattr(model, "patch_embed")

    def sites(self, model):
        described = {"activation": model.norm} if self.named else {}
        block = model.blocks[0]
        grid = PatchGrid.patches(8)
        yield feed_forward("blocks.0.norm1", reads=block.mlp.fc2, grid=grid, prefix_tokens=1, **described)


@pytest.mark.parametrize("named", [True, False])
def test_where_no_activation_function_is_known_it_is_refused_and_renders_go_on_without(named):
    vit = captum_vit.adapt(plain().build(), adapter=Elsewhere(named))
    images = torch.randn(1, 3, 32, 32)

    def run() -> None:
        with vit.redirected("blocks.0.norm1"):
            vit(images)

    with pytest.raises(RedirectError, match=r'no activation function is known at "blocks\.0\.norm1".*activation='):
        run()
    (render,) = captum_vit.render(vit, "blocks.0.norm1:3", recipe=recipe(0.5), progress=False)
    assert render.image.shape == (32, 32, 3)
