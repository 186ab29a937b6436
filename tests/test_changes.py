"""Models that are changed after `adapt`, run again in the backward pass, or share modules: followed, or refused."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from captum.attr import LayerGradientXActivation
from families import SIX_FAMILIES, TINY_MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint

import captum_vit
from captum_vit import Adapter, PatchGrid, feed_forward
from captum_vit.errors import CaptumViTError, GridError, RecomputationError


class LoRA(nn.Module):
    """A layer in another's place, which calls it and adds a path of its own."""

    def __init__(self, base):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.base_layer = base
            self.down, self.up = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)

    def forward(self, x):
        return self.base_layer(x) + 8 * self.up(self.down(x))


def second_layers(vit):
    """Parent, name and module of what reads each site's neurons."""
    model = vit._path.model
    for path, module in list(model.named_modules()):
        if any(module is site.reads for site in vit.sites):
            parent, _, name = path.rpartition(".")
            yield model.get_submodule(parent), name, module


CHANGES = {
    "LoRA": lambda vit: [setattr(parent, name, LoRA(module)) for parent, name, module in second_layers(vit)],
    "another layer": lambda vit: [
        setattr(parent, name, copy.deepcopy(module)) for parent, name, module in second_layers(vit)
    ],
    "a box": lambda vit: [setattr(parent, name, nn.Sequential(module)) for parent, name, module in second_layers(vit)],
    "weight norm": lambda vit: [nn.utils.parametrizations.weight_norm(module) for *_, module in second_layers(vit)],
    "spectral norm": lambda vit: [nn.utils.parametrizations.spectral_norm(module) for *_, module in second_layers(vit)],
    "dtype": lambda vit: vit.double(),
    "inner dtype": lambda vit: vit.model.double(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_a_change_after_adapt_is_followed(family, change):
    """Attributions and maps are those of a model that was changed before."""
    tiny = SIX_FAMILIES[family]
    vit, before = captum_vit.adapt(tiny.build()), captum_vit.adapt(tiny.build())
    vit(torch.rand(1, 3, *tiny.image_size))
    for each in (vit, before):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            CHANGES[change](each)
    before.restore()
    inner = before.model
    dtype = next(vit.parameters()).dtype
    images = torch.rand(2, 3, *tiny.image_size, dtype=dtype)
    expected = hidden_of(before, images)
    for site in vit.sites:
        torch.testing.assert_close(vit.patch_map(images, f"{site.name}:3"), expected[site.name][:, 3])
    torch.testing.assert_close(vit(images), inner(images))
    name = vit.sites[0].name
    attribution = LayerGradientXActivation(vit, vit.layer(name)).attribute(images, target=1)
    assert attribution.any()
    # Silence the site through its probe: whatever reads the neurons now must see it.
    hook = vit.layer(name).register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    silenced = vit(images)
    hook.remove()
    assert not torch.allclose(silenced, vit(images))


def hidden_of(vit, images):
    """Maps of a restored model, by hooks on whatever stands now where each site's neurons are read."""
    found, hooks = {}, []
    for place, hook in vit._path._places[1:]:
        for site in hook.sites:

            def note(module, args, site=site):
                grid, tokens = site.grid(tuple(images.shape[-2:])), args[0][:, site.prefix_tokens :]
                if tokens.shape[1] == grid[0] * grid[1]:
                    found[site.name] = tokens.unflatten(1, grid).permute(0, 3, 1, 2).detach()

            hooks.append(vit._path.model.get_submodule(".".join(place)).register_forward_pre_hook(note))
    with torch.no_grad():
        vit.model(images)
    for hook in hooks:
        hook.remove()
    return found


def test_restoring_takes_hooks_off_layers_that_came_later():
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    CHANGES["LoRA"](vit)
    vit(torch.rand(1, 3, 32, 32))
    vit.restore()
    assert not any(module._forward_pre_hooks for module in vit.model.modules())


def test_another_input_size_after_adapt_is_followed():
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    assert vit.preprocessing.size == (32, 32)
    vit.model.set_input_size(img_size=(48, 64))
    assert vit.preprocessing.size == (48, 64)
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe="fourier", steps=2, progress=False)
    assert render.image.shape == (48, 64, 3)


def test_a_block_that_is_gone_is_told_only_to_whoever_asks_for_it():
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    del vit.model.blocks[2]
    images = torch.rand(1, 3, 32, 32)
    vit(images)
    vit.patch_map(images, "blocks.1:7")
    with pytest.raises(CaptumViTError, match=r"without reaching blocks\.2; if the model was changed after adapt\(\)"):
        vit.patch_map(images, "blocks.2:7")


# --- recomputation


class Checkpointed(nn.Module):
    """A block that is run again in the backward pass."""

    def __init__(self, block, reentrant):
        super().__init__()
        self.block, self.reentrant = block, reentrant

    def forward(self, x):
        return checkpoint(self.block, x, use_reentrant=self.reentrant)


def timms(model):
    model.set_grad_checkpointing(True)


def by_hand(model, reentrant):
    for number, block in enumerate(model.blocks):
        model.blocks[number] = Checkpointed(block, reentrant)


def torchs_wrapper(model):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    apply_activation_checkpointing(model, check_fn=lambda module: type(module).__name__ == "Block")


RECOMPUTED = {
    "timm's flag": timms,
    "reentrant": partial(by_hand, reentrant=True),
    "not reentrant": partial(by_hand, reentrant=False),
    "torch's wrapper": torchs_wrapper,
}
ENTRIES = {
    "render": lambda vit: captum_vit.render(vit, "blocks.1:7", recipe="fourier", steps=2, progress=False),
    "render_vis": lambda vit: captum_vit.render_vis(
        vit, "blocks.1:7", thresholds=(2,), show_image=False, progress=False
    ),
    "patch_map": lambda vit: vit.patch_map(torch.rand(1, 3, 32, 32), "blocks.1:7"),
    "neuron": lambda vit: vit.neuron("blocks.1:7")(torch.rand(1, 3, 32, 32, requires_grad=True)).sum().backward(),
    "attribute": lambda vit: captum_vit.attribute(vit, "blocks.1:7", torch.rand(1, 3, 32, 32), "saliency"),
    "top_images": lambda vit: captum_vit.top_images(vit, [torch.rand(3, 32, 32)] * 2, 1, progress=False),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("how", RECOMPUTED)
def test_recomputed_layers_are_right_or_refused_with_one_clear_error(how, entry, when):
    model = SIX_FAMILIES["deit"].build()
    if when == "before":
        RECOMPUTED[how](model)
    if when == "before" and how != "timm's flag":
        return  # a wrapper in the blocks' place need not look like a block to an adapter
    vit = captum_vit.adapt(model)
    if when == "after":
        RECOMPUTED[how](model)
    with pytest.raises(RecomputationError, match="switch it off"):
        ENTRIES[entry](vit)


@pytest.mark.parametrize("how", RECOMPUTED)
def test_a_whole_pass_of_recomputed_layers_keeps_its_gradients(how):
    plain, recomputed = SIX_FAMILIES["deit"].build(), SIX_FAMILIES["deit"].build()
    vit, other = captum_vit.adapt(plain), captum_vit.adapt(recomputed)
    RECOMPUTED[how](recomputed)
    gradients = []
    for each in (vit, other):
        images = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32).requires_grad_()
        each(images).sum().backward()
        gradients.append(images.grad)
    torch.testing.assert_close(*gradients)


# --- one module at several places


class Shared(nn.Module):
    """A weight-shared transformer: the same block three times."""

    def __init__(self, model, times=3):
        super().__init__()
        self.vit, self.times = model, times
        self.patch_embed = model.patch_embed

    def forward(self, images):
        x = self.vit._pos_embed(self.patch_embed(images))
        for _ in range(self.times):
            x = self.vit.blocks[0](x)
        return self.vit.forward_head(self.vit.norm(x))


class SharedAdapter(Adapter):
    family = "shared"
    models = (Shared,)

    def sites(self, model):
        grid = PatchGrid.patches(model.patch_embed.patch_size)
        for i in range(model.times):
            yield feed_forward(f"pass.{i}", reads=model.vit.blocks[0].mlp.fc2, grid=grid, prefix_tokens=1)


@pytest.fixture
def shared(monkeypatch):
    from captum_vit.probes.plugins import Registered, registry

    monkeypatch.setattr(registry(), "adapters", [Registered(SharedAdapter(), "here")])
    return captum_vit.adapt(Shared(TINY_MODELS["deit"].build()).eval())


def test_a_block_that_runs_several_times_is_as_many_sites_each_its_own(shared):
    images = torch.rand(2, 3, 32, 32)
    hidden = []
    hook = shared.model.vit.blocks[0].mlp.act.register_forward_hook(lambda m, i, output: hidden.append(output.detach()))
    shared(images)
    hook.remove()
    for number, tokens in enumerate(hidden):
        expected = tokens[:, 1:, 7].unflatten(1, (4, 4))
        torch.testing.assert_close(shared.patch_map(images, f"pass.{number}:7"), expected)
        torch.testing.assert_close(shared.patch_map(images, f"pass.{number}:7"), expected)  # and in the next pass
    several = [f"pass.{number}:7" for number in range(3)]
    maps = shared.patch_map(images, several)
    torch.testing.assert_close(maps, torch.stack([tokens[:, 1:, 7].unflatten(1, (4, 4)) for tokens in hidden], 1))


def test_a_shared_block_that_runs_more_often_than_its_sites_is_told(shared):
    shared.model.times = 4
    shared.layer("pass.0").register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(GridError, match="share one module"):
        shared(torch.rand(1, 3, 32, 32))


# --- gradient modes


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("mode", MODES)
def test_every_entry_works_in_every_mode(entry, mode):
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    if entry == "neuron":  # the caller's own backward pass
        return
    with MODES[mode]():
        ENTRIES[entry](vit)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_a_render_is_the_same_in_any_gradient_mode(mode):
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    expected = captum_vit.render(vit, "blocks.1:7", steps=3, progress=False).images
    with MODES[mode]():
        found = captum_vit.render(vit, "blocks.1:7", steps=3, progress=False).images
    assert (found == expected).all()


# --- memory layout


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_maps_and_gradients_at_a_watched_probe_are_laid_out_like_a_convnets(family):
    tiny = SIX_FAMILIES[family]
    vit = captum_vit.adapt(tiny.build())
    layer = vit.ffn[vit.sites[0].key]
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.rand(2, 3, *tiny.image_size, requires_grad=True)
    output = vit(images)
    (gradient,) = torch.autograd.grad(output.sum(), seen[0], retain_graph=True)
    hook = layer.register_full_backward_hook(lambda module, inputs, outputs: seen.extend((*inputs, *outputs)))
    vit(images).sum().backward()
    hook.remove()
    for tensor in (*seen, gradient):
        assert tensor.is_contiguous()
        tensor.view(2, -1)
    seen[0].detach_()
