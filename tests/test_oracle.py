"""Probes against the oracle: what is read, what is replaced, what flows back, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from families import TINY_MODELS
from oracle import EXPECTED, Oracle
from torch import Tensor

import captum_vit

every_model = pytest.mark.parametrize("name", TINY_MODELS)


def images_for(name: str, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *TINY_MODELS[name].image_size, generator=torch.Generator().manual_seed(1))


def watched(vit: captum_vit.AdaptedModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Maps and prefix maps, filled by hooks on every probe."""
    maps: dict[str, Tensor] = {}
    prefixes: dict[str, Tensor] = {}
    for site in vit.sites:
        vit.ffn[site.key].register_forward_hook(lambda m, i, out, n=site.name: maps.update({n: out}))
        if site.prefix_tokens:
            vit.prefix[site.key].register_forward_hook(lambda m, i, out, n=site.name: prefixes.update({n: out}))
    return maps, prefixes


@every_model
def test_sites_are_those_that_the_architecture_has(name):
    tiny = TINY_MODELS[name]
    vit = captum_vit.adapt(tiny.build())
    found = [(site.name, site.units, site.grid(tiny.image_size), site.prefix_tokens) for site in vit.sites]
    assert found == EXPECTED[name]


@every_model
def test_every_map_is_the_hidden_activation(name):
    tiny, images = TINY_MODELS[name], images_for(name)
    oracle = Oracle(name, tiny.build())
    read, computed = oracle.read(images), oracle.computed(images)
    vit = captum_vit.adapt(tiny.build())
    maps, prefixes = watched(vit)
    with torch.no_grad():
        vit(images)
    assert list(maps) == list(read) == list(computed)
    for site, patch_map in maps.items():
        prefix, expected = oracle.split(site, read[site])
        assert torch.equal(patch_map, expected), site
        torch.testing.assert_close(patch_map, oracle.split(site, computed[site])[1])
        assert expected.std(dim=(2, 3)).min() > 0, "a map that is the same everywhere would prove nothing"
        if prefix.shape[-1]:
            assert torch.equal(prefixes[site], prefix), site
        else:
            assert site not in prefixes


@every_model
def test_patch_map_and_neuron_read_the_same_activation(name):
    tiny, images = TINY_MODELS[name], images_for(name)
    oracle = Oracle(name, tiny.build())
    read = oracle.read(images)
    vit = captum_vit.adapt(tiny.build())
    for site in vit.sites:
        expected = oracle.split(site.name, read[site.name])[1]
        several = vit.patch_map(images, [f"{site.name}:{site.units - 1}", f"{site.layer}:0"])
        assert torch.equal(several, expected[:, [-1, 0]])
        assert torch.equal(vit.patch_map(images, f"{site.name}:3"), expected[:, 3])
        torch.testing.assert_close(vit.neuron(f"{site.name}:3")(images), expected[:, 3].mean(dim=(1, 2)))
        assert torch.equal(vit.neuron(f"{site.name}:3", patch=(1, 0))(images), expected[:, 3, 1, 0])


@every_model
def test_outputs_and_gradients_are_the_models_own_bit_for_bit(name):
    images = images_for(name).requires_grad_()
    model = TINY_MODELS[name].build()

    def run(module):
        output = module(images)
        return output, *torch.autograd.grad(output.square().sum(), (images, *model.parameters()), allow_unused=True)

    def same(results):
        return all(a is b is None or torch.equal(a, b) for a, b in zip(results, before, strict=True))

    before = run(model)
    vit = captum_vit.adapt(model)
    assert same(run(vit)), "probes that nobody watches"
    assert same(run(model)), "the model itself, while adapted"
    watched(vit)
    assert same(run(vit)), "probes with hooks"
    vit.restore()
    assert same(run(model)), "after restore"
    assert same(run(vit)), "an adapted model that was restored goes on as the plain one"


@every_model
def test_a_replaced_map_replaces_the_patch_activations_and_nothing_else(name):
    tiny, images = TINY_MODELS[name], images_for(name)
    plain = tiny.build()
    oracle = Oracle(name, plain)
    vit = captum_vit.adapt(tiny.build())
    with torch.no_grad():
        untouched = plain(images)
        for site in vit.sites:
            calls = oracle.sharing(site.name)

            def zero_by_hand(module, args, site=site, calls=calls):
                if calls.pop(0) != site.name:
                    return None
                tokens = args[0].clone()
                tokens[:, site.prefix_tokens :, -site.units :] = 0
                return (tokens,)

            hook = oracle.second_linear(site.name).register_forward_pre_hook(zero_by_hand)
            expected = plain(images)
            hook.remove()
            hook = vit.ffn[site.key].register_forward_hook(lambda module, args, output: torch.zeros_like(output))
            replaced = vit(images)
            hook.remove()
            assert torch.equal(replaced, expected), site
            assert torch.equal(expected, untouched) == (not site.reaches_output), site
        assert torch.equal(vit(images), untouched)


@every_model
def test_a_replaced_prefix_replaces_the_prefix_tokens_and_nothing_else(name):
    tiny, images = TINY_MODELS[name], images_for(name)
    plain = tiny.build()
    oracle = Oracle(name, plain)
    vit = captum_vit.adapt(tiny.build())
    with_prefix = [site for site in vit.sites if site.prefix_tokens]
    assert bool(with_prefix) == any(prefix for *_, prefix in EXPECTED[name])
    for site in with_prefix:
        calls = oracle.sharing(site.name)

        def double_by_hand(module, args, site=site, calls=calls):
            if calls.pop(0) != site.name:
                return None
            tokens = args[0].clone()
            tokens[:, : site.prefix_tokens, -site.units :] *= 2
            return (tokens,)

        hook = oracle.second_linear(site.name).register_forward_pre_hook(double_by_hand)
        expected = plain(images)
        hook.remove()
        hook = vit.prefix_layer(site.name).register_forward_hook(lambda module, args, output: 2 * output)
        assert torch.equal(vit(images), expected), site
        hook.remove()


@every_model
def test_gradients_at_a_probe_are_those_of_the_hidden_activation(name):
    tiny, images = TINY_MODELS[name], images_for(name)
    oracle = Oracle(name, tiny.build())
    output, tokens = oracle.calls(oracle.second_linear, images)
    expected = dict(zip(tokens, torch.autograd.grad(output.square().sum(), [*tokens.values()]), strict=True))
    vit = captum_vit.adapt(tiny.build())
    maps, _ = watched(vit)
    output = vit(images)
    gradients = dict(zip(maps, torch.autograd.grad(output.square().sum(), [*maps.values()]), strict=True))
    for site in vit.sites:
        by_hand = oracle.split(site.name, expected[site.name][..., -site.units :])[1]
        assert torch.equal(gradients[site.name], by_hand), site
        assert bool(by_hand.any()) == site.reaches_output, site
