"""What holds in every precision, grad mode, wrapper and entry point of a model."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from families import SIX_FAMILIES, TINY_MODELS
from oracle import Oracle
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import captum_vit
from captum_vit.errors import UnsupportedModelError, ZeroAttributionWarning

every_model = pytest.mark.parametrize("name", TINY_MODELS)
MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast bfloat16": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
}


def images_for(name: str) -> Tensor:
    return torch.randn(2, 3, *TINY_MODELS[name].image_size, generator=torch.Generator().manual_seed(0))


def assert_same(name: str, plain: nn.Module, vit: captum_vit.AdaptedModel, images: Tensor) -> None:
    """Outputs and every map, of passes that run through, that stop, and that hooks watch."""
    expected, oracle = plain(images), Oracle(name, plain)
    read = oracle.read(images)
    assert torch.equal(vit(images), expected)
    for site in vit.sites:
        hidden = oracle.split(site.name, read[site.name])[1]
        seen: list[Tensor] = []
        handle = vit.ffn[site.key].register_forward_hook(lambda probe, args, output, seen=seen: seen.append(output))
        assert torch.equal(vit(images), expected)
        handle.remove()
        with vit.until(site.name):
            stopped = vit(images)
        for found in (seen[0], stopped):
            assert found.dtype == hidden.dtype
            assert torch.equal(found, hidden), site
        assert vit.neuron(f"{site.name}:0")(images).dtype == hidden.dtype


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@every_model
def test_modes(name, mode):
    with mode():
        assert_same(name, TINY_MODELS[name].build(), captum_vit.adapt(TINY_MODELS[name].build()), images_for(name))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@every_model
def test_precisions(name, dtype):
    images = images_for(name).to(dtype)
    plain = TINY_MODELS[name].build().to(dtype)
    assert_same(name, plain, captum_vit.adapt(TINY_MODELS[name].build().to(dtype)), images)
    assert_same(name, plain, captum_vit.adapt(TINY_MODELS[name].build()).to(dtype), images)


class Normalize(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - 0.5) / 0.25


class Resize(nn.Module):
    """To the size of the model behind it."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.interpolate(images, self.size, mode="bilinear")


class Guarded(nn.Module):
    """A wrapper that hides errors, as some that are used in production do."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        try:
            return self.backbone(images)
        except Exception:
            return torch.zeros(len(images), 5)


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_a_wrapped_model_keeps_its_sites_and_gives_the_maps_of_what_reaches_it(family):
    tiny = SIX_FAMILIES[family]
    bare = captum_vit.adapt(tiny.build())
    wrapper = Guarded(nn.Sequential(Normalize(), Resize(tiny.image_size), tiny.build())).eval()
    vit = captum_vit.adapt(wrapper)
    described = [[(s.name, s.units, s.prefix_tokens, s.layer) for s in each.sites] for each in (vit, bare)]
    assert described[0] == described[1]
    assert [*wrapper.state_dict()] == [f"backbone.2.{key}" for key in bare.model.state_dict()]
    pixels = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    images = Resize(tiny.image_size)(Normalize()(pixels))
    assert torch.equal(vit(pixels), bare(images))
    for site in vit.sites:
        several = [f"{site.name}:{unit}" for unit in (0, 3, 5)]
        assert torch.equal(vit.patch_map(pixels, several), bare.patch_map(images, several))
        assert torch.equal(vit.neuron(several[0])(pixels), bare.neuron(several[0])(images))
    vit.restore()
    assert not any(module._forward_pre_hooks for module in wrapper.modules())


@pytest.mark.parametrize("name", ["deit", "vit_with_registers", "swin", "coat", "pit", "twins_svt", "convit"])
def test_maps_are_right_through_a_models_other_entry_points(name):
    tiny = TINY_MODELS[name]
    plain, model = tiny.build(), tiny.build()
    vit = captum_vit.adapt(model)
    site = vit.sites[0]
    seen: list[Tensor] = []
    vit.ffn[site.key].register_forward_hook(lambda probe, args, output: seen.append(output))
    entries = {"forward_features": lambda m, x: m.forward_features(x)}
    if hasattr(model, "forward_intermediates"):
        entries["forward_intermediates"] = lambda m, x: m.forward_intermediates(x, intermediates_only=True)[-1]
    for seed, enter in enumerate(entries.values()):
        images = torch.randn(2, 3, *tiny.image_size, generator=torch.Generator().manual_seed(seed))
        oracle = Oracle(name, plain)
        hidden = oracle.split(site.name, oracle.read(images)[site.name])[1]
        results = [enter(network, images) for network in (model, plain)]
        for mine, theirs in zip(*(r if isinstance(r, tuple | list) else [r] for r in results), strict=True):
            assert torch.equal(mine, theirs)
        assert torch.equal(seen.pop(), hidden)
        assert not seen


@every_model
def test_a_layer_whose_patches_never_reach_the_output_is_a_warning(name):
    tiny, images = TINY_MODELS[name], images_for(name)
    plain = tiny.build()
    vit = captum_vit.adapt(tiny.build())
    oracle = Oracle(name, plain)
    output, tokens = oracle.calls(oracle.second_linear, images)
    gradients = torch.autograd.grad(output.square().sum(), [*tokens.values()])
    for site, gradient in zip(vit.sites, gradients, strict=True):
        if oracle.split(site.name, gradient[..., -site.units :])[1].any():
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert vit.layer(site.name) is vit.ffn[site.key]
        else:
            with pytest.warns(ZeroAttributionWarning, match=rf"never reads the patch tokens of {site.name} again"):
                assert vit.layer(site.layer) is vit.ffn[site.key]


def test_another_module_in_a_probes_place_is_what_runs():
    tiny, images = TINY_MODELS["vit_with_registers"], images_for("vit_with_registers")
    vit = captum_vit.adapt(tiny.build())
    output = vit(images)

    class Silence(nn.Module):
        def forward(self, neurons: Tensor) -> Tensor:
            return torch.zeros_like(neurons)

    hook = vit.ffn["blocks_1"].register_forward_hook(lambda probe, args, output: torch.zeros_like(output))
    silenced = vit(images)
    hook.remove()
    assert not torch.equal(silenced, output)
    probe, vit.ffn["blocks_1"] = vit.ffn["blocks_1"], Silence()
    assert torch.equal(vit(images), silenced)
    vit.ffn["blocks_1"] = probe
    probe.forward = torch.zeros_like  # as libraries do that patch a module's forward
    assert torch.equal(vit(images), silenced)
    del probe.forward
    assert torch.equal(vit(images), output)


def test_a_hook_on_all_modules_sees_the_probes():
    vit, images = captum_vit.adapt(TINY_MODELS["deit"].build()), images_for("deit")
    seen = []
    hook = nn.modules.module.register_module_forward_hook(lambda module, args, output: seen.append(module))
    vit(images)
    hook.remove()
    assert all(probe in seen for probe in (*vit.ffn.values(), *vit.prefix.values()))


def test_a_feed_forward_block_of_an_unknown_kind_is_an_error_that_names_it():
    class Odd(nn.Sequential):
        def __init__(self, in_features: int, hidden_features: int, **unused: object) -> None:
            super().__init__(nn.Linear(in_features, hidden_features), nn.Linear(hidden_features, in_features))

    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, mlp_layer=Odd).eval()
    with pytest.raises(UnsupportedModelError, match=r'Odd at "blocks\.0" has no second linear layer'):
        captum_vit.adapt(model)
    assert not any(module._forward_pre_hooks for module in model.modules())
