"""Attributions of the model's output are zero where it never reads the patches again, and the package says so."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from captum import attr
from families import TINY_MODELS

import captum_vit
from captum_vit.errors import ZeroAttributionWarning

# The models whose head reads prefix tokens.
READ_BY_PREFIX = [name for name, tiny in TINY_MODELS.items() if getattr(tiny.build(), "global_pool", "") == "token"]
METHODS = {
    attr.LayerGradientXActivation: {},
    attr.LayerGradCam: {},
    attr.LayerConductance: {"n_steps": 4},
    attr.LayerIntegratedGradients: {"n_steps": 4},
}


@pytest.fixture(scope="module", params=TINY_MODELS)
def model(request):
    tiny = TINY_MODELS[request.param]
    images = torch.randn(2, 3, *tiny.image_size, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    return captum_vit.adapt(tiny.build().double()), images


def output_gradients(vit, images):
    """Gradient of the output with respect to each site's map, by one backward pass."""
    maps = {}
    hooks = [
        vit.ffn[site.key].register_forward_hook(lambda probe, args, out, site=site: maps.update({site: out}))
        for site in vit.sites
    ]
    total = vit(images).square().sum()  # a plain sum might not depend on anything behind a LayerNorm
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(total, list(maps.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(maps, gradients, strict=True))


def test_a_site_reaches_the_output_if_and_only_if_the_outputs_gradient_is_not_zero_there(model):
    vit, images = model
    gradients = output_gradients(vit, images)
    assert list(gradients) == list(vit.sites)
    for site, gradient in gradients.items():
        assert gradient.any() == site.reaches_output, site


def test_asking_for_a_layer_that_does_not_reach_the_output_warns(model):
    vit, _ = model
    for site in vit.sites:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            vit.layer(site.name)
        warned = [warning for warning in caught if warning.category is ZeroAttributionWarning]
        assert len(warned) == (not site.reaches_output)


@pytest.mark.parametrize("model", READ_BY_PREFIX, indirect=True, scope="module")
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_scores_at_the_last_site_are_attributed_to_the_prefix_tokens_alone(method, model):
    vit, images = model
    last = vit.sites[-1]
    assert not last.reaches_output
    with pytest.warns(ZeroAttributionWarning, match=re.escape(f'vit.prefix_layer("{last.name}")')):
        patches = vit.layer(last.name)
    assert not method(vit, patches).attribute(images, target=1, **METHODS[method]).any()
    assert method(vit, vit.prefix_layer(last.name)).attribute(images, target=1, **METHODS[method]).any()


@pytest.mark.parametrize("model", READ_BY_PREFIX, indirect=True, scope="module")
def test_gradient_x_activation_of_the_prefix_tokens_is_plain_autograds(model):
    vit, images = model
    last = vit.sites[-1]
    found = attr.LayerGradientXActivation(vit, vit.prefix_layer(last.name)).attribute(images, target=1)
    assert found.shape == (2, last.units, 1, last.prefix_tokens)

    read = []
    hook = last.reads.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    score = vit.model(images)[:, 1].sum()
    hook.remove()
    # CoaT's shared module runs for its scales in the order of the sites, and the last site is the last of them.
    prefix = (read[-1] * torch.autograd.grad(score, read[-1])[0])[:, : last.prefix_tokens]
    torch.testing.assert_close(found, prefix.transpose(1, 2)[:, :, None])
