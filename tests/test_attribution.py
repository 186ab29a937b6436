"""Captum's methods by name: each is Captum's own, with baselines and features that suit a patch grid."""

from __future__ import annotations

import pytest
import torch
from captum import attr
from families import SIX_FAMILIES
from torch import Tensor

import captum_vit
from captum_vit import attribution
from captum_vit.attribution import attribute, methods
from captum_vit.errors import AddressError, GridError, MethodError

# Captum tells at each call which hooks and flags it sets.
pytestmark = pytest.mark.filterwarnings(r"ignore:::captum\.")

NEURON = "blocks.1:7"
FAST = {"lime": {"n_samples": 64}, "kernel-shap": {"n_samples": 64}, "shapley-value-sampling": {"n_samples": 1}}
PERTURBING = ["feature-ablation", "feature-permutation", "kernel-shap", "lime", "shapley-value-sampling"]
# Exact Shapley values are refused for 16 patches and have a test of their own.
WORKING = [method for method in methods() if method != "shapley-values"]


@pytest.fixture
def vit():
    model = SIX_FAMILIES["deit"].build().double()
    with captum_vit.adapt(model) as vit:
        yield vit


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def test_the_methods_are_those_of_captum_that_explain_a_function_of_the_input():
    assert set(methods()) == {
        *("saliency", "input-x-gradient", "integrated-gradients", "gradient-shap", "deep-lift", "deep-lift-shap"),
        *("guided-backprop", "deconvolution", "occlusion", "feature-ablation", "feature-permutation"),
        *("lime", "kernel-shap", "shapley-values", "shapley-value-sampling"),
    }


def test_a_method_that_captum_gains_is_found(monkeypatch, vit, images):
    class NewXMethod(attr.Saliency):
        pass

    monkeypatch.setattr(attr, "NewXMethod", NewXMethod, raising=False)
    assert "new-x-method" in methods()
    assert torch.equal(attribute(vit, NEURON, images, "new-x-method"), attribute(vit, NEURON, images, "saliency"))


def hooks(vit: captum_vit.AdaptedModel) -> list[int]:
    """Number of hooks on each module."""
    return [
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in vit.modules()
    ]


@pytest.mark.parametrize("tunnel", ["", "noise-tunnel:"])
@pytest.mark.parametrize("method", WORKING)
def test_every_method_gives_attributions_in_the_images_shape_and_leaves_all_as_it_was(method, tunnel, vit, images):
    before, output, hooks_before = images.clone(), vit.model(images), hooks(vit)
    attributions = attribute(vit, NEURON, images, tunnel + method, **FAST.get(method, {}))
    assert attributions.shape == images.shape
    assert attributions.isfinite().all()
    assert attributions.any()
    assert not attributions.requires_grad
    assert not images.requires_grad
    assert torch.equal(images, before)
    assert torch.equal(vit.model(images), output)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in vit.parameters())
    assert hooks(vit) == hooks_before


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_integrated_gradients_from_the_mean_colour_sum_to_the_change_of_activation(family):
    tiny = SIX_FAMILIES[family]
    images = torch.randn(2, 3, *tiny.image_size, dtype=torch.double)
    with captum_vit.adapt(tiny.build().double()) as vit:
        torch.manual_seed(0)
        for parameter in vit.parameters():  # without biases, LayerNorm's gradient at the baseline is enormous
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 0.3, 0.3)
        site = vit.sites[len(vit.sites) // 2]
        address = f"{site.name}:3"
        neuron = vit.neuron(address)
        mean_colour = vit.preprocessing.normalize(
            torch.tensor(vit.preprocessing.mean, dtype=torch.double)[:, None, None].expand(1, 3, *tiny.image_size)
        )
        attributions = attribute(vit, address, images, n_steps=200)
        change = neuron(images) - neuron(mean_colour)
        torch.testing.assert_close(attributions.sum((1, 2, 3)), change, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_ablation_is_of_the_patches_of_the_neurons_site(family):
    tiny = SIX_FAMILIES[family]
    images = torch.randn(1, 3, *tiny.image_size)
    with captum_vit.adapt(tiny.build()) as vit:
        site = vit.sites[-1]
        effects = attribute(vit, f"{site.name}:3", images, "feature-ablation")[0]
        inside = site.feature_mask(tiny.image_size)[0, 0] == 1
        neuron = vit.neuron(f"{site.name}:3")
        expected = (neuron(images) - neuron(images.masked_fill(inside, 0))).item()
    torch.testing.assert_close(effects[:, inside], torch.full((3, int(inside.sum())), expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", PERTURBING)
def test_methods_that_perturb_give_one_value_to_each_patch(method, vit, images):
    attributions = attribute(vit, NEURON, images, method, **FAST.get(method, {}))
    site = vit.site("blocks.1")
    per_patch = site.pool(attributions).repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)
    torch.testing.assert_close(attributions, per_patch, check_dtype=False)


def test_occlusion_slides_a_patch_by_half_a_patch(vit, images):
    by_hand = attr.Occlusion(vit.neuron(NEURON)).attribute(images, (3, 8, 8), strides=(3, 4, 4))
    torch.testing.assert_close(attribute(vit, NEURON, images, "occlusion"), by_hand)


def test_limes_default_fit_is_not_all_zeros_as_captums_lasso_is(vit, images):
    neuron = vit.neuron(NEURON)
    mask = vit.site("blocks.1").feature_mask((32, 32))
    assert not attr.Lime(neuron).attribute(images[:1], feature_mask=mask, n_samples=64).any()
    effects = attribute(vit, NEURON, images[:1], "lime")
    ablation = attribute(vit, NEURON, images[:1], "feature-ablation")
    assert torch.corrcoef(torch.stack([effects.flatten(), ablation.flatten()]).double())[0, 1] > 0.5


def test_options_go_to_captums_class_or_to_its_attribute(vit, images):
    black = torch.full_like(images, -2)
    by_hand = attr.IntegratedGradients(vit.neuron(NEURON), multiply_by_inputs=False)
    torch.testing.assert_close(
        attribute(vit, NEURON, images, "integrated-gradients", multiply_by_inputs=False, baselines=black, n_steps=7),
        by_hand.attribute(images, black, n_steps=7),
    )


def test_a_noise_tunnels_options_are_its_own_and_its_methods(vit, images):
    still = attribute(vit, NEURON, images, "noise-tunnel:saliency", nt_samples=2, stdevs=0.0, abs=False)
    torch.testing.assert_close(still, attribute(vit, NEURON, images, "saliency", abs=False))


def test_a_noise_tunnels_noise_grows_with_the_images_range(vit, images):
    def noise(images: Tensor) -> Tensor:
        seen = []
        hook = vit.model.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
        attribute(vit, NEURON, images, "noise-tunnel:gradient-shap", nt_samples=40, n_samples=1)
        hook.remove()
        return seen[-1].std()

    torch.manual_seed(0)
    flat = torch.zeros_like(images)
    flat[:, :, 0, 0] = 1
    # Gradient SHAP samples between the image, which is nearly flat, and the mean colour: what varies is the noise.
    assert noise(flat) < 0.15
    assert noise(10 * flat) > 5 * noise(flat)


def test_one_patch_can_be_explained_instead_of_the_mean(vit, images):
    by_hand = attr.Saliency(vit.neuron(NEURON, (1, 2))).attribute(images)
    torch.testing.assert_close(attribute(vit, NEURON, images, "saliency", patch=(1, 2)), by_hand)


def test_exact_shapley_values_of_a_few_features_are_complete(vit, images):
    halves = (torch.arange(32) >= 16).long()[None, None, :, None].repeat(1, 3, 1, 32)
    values = attribute(vit, NEURON, images, "shapley-values", feature_mask=halves)
    neuron = vit.neuron(NEURON)
    expected = neuron(images) - neuron(torch.zeros_like(images))
    torch.testing.assert_close(values[:, 0, [0, -1], 0].sum(1), expected, check_dtype=False, rtol=1e-5, atol=1e-6)


def test_a_pooled_attribution_and_the_patch_map_can_be_compared(vit, images):
    pooled = vit.site("blocks.1").pool(attribute(vit, NEURON, images).sum(1))
    assert pooled.shape == vit.patch_map(images, NEURON).shape


# --- what is refused


@pytest.mark.parametrize(
    ("method", "told"),
    {
        "misspelt": ("integrated-gradient", '"integrated-gradient"; did you mean integrated-gradients'),
        "of a class": ("IntegratedGradients", "did you mean integrated-gradients"),
        "unlike any": ("xyz", "there are deconvolution, deep-lift"),
        "empty": ("", "no attribution method named; there are"),
        "of a layer": ("layer-conductance", "no attribution method"),
        "without rules": ("lrp", "no propagation rules for LayerNorm"),
        "tunnel alone": ("noise-tunnel", 'such as "noise-tunnel:saliency"'),
        "tunnel of nothing": ("noise-tunnel:", "no attribution method named"),
        "tunnel of unknown": ("noise-tunnel:salience", "did you mean saliency"),
        "unknown tunnel": ("noisetunnel:saliency", "did you mean noise-tunnel"),
        "tunnel in a tunnel": (
            "noise-tunnel:noise-tunnel:saliency",
            'no attribution method "noise-tunnel:noise-tunnel"',
        ),
    }.values(),
)
def test_a_method_that_is_not_there_is_refused_with_similar_names(method, told, vit, images):
    with pytest.raises(MethodError, match=told):
        attribute(vit, NEURON, images, method)
    with pytest.raises(MethodError, match=told):
        attribution.options_of(method)


def test_an_option_that_the_method_does_not_have_is_refused(vit, images):
    with pytest.raises(MethodError, match='"saliency" has no option n_steps; it takes abs'):
        attribute(vit, NEURON, images, "saliency", n_steps=3)
    # A tuple, or other images' shapes, instead of a tensor.
    with pytest.raises(MethodError, match="no option return_convergence_delta"):
        attribute(vit, NEURON, images, return_convergence_delta=True)


def test_the_options_of_a_method_are_captums_but_for_what_attribute_passes_itself():
    assert attribution.options_of("saliency") == ("abs",)
    assert {"n_steps", "baselines", "multiply_by_inputs"} <= set(attribution.options_of("integrated-gradients"))
    assert {"nt_samples", "stdevs", "abs"} == set(attribution.options_of("noise-tunnel:saliency")) & {
        *("nt_samples", "stdevs", "abs", "target", "inputs", "attribution_method")
    }


@pytest.mark.parametrize("shape", [(3, 32, 32), (0, 3, 32, 32)])
def test_what_is_no_batch_of_images_is_refused(shape, vit):
    with pytest.raises(MethodError, match=r"give one or more, \(B, 3, H, W\)"):
        attribute(vit, NEURON, torch.zeros(shape, dtype=torch.double))


@pytest.mark.parametrize("method", methods())
def test_a_method_that_fails_leaves_no_hook(method, vit, images):
    before = hooks(vit)
    with pytest.raises((AddressError, MethodError)):
        attribute(vit, NEURON, images, method, patch=(9, 9))
    assert hooks(vit) == before


def test_feature_permutation_of_one_image_is_refused_and_not_zero(vit, images):
    with pytest.raises(MethodError, match="two or more"):
        attribute(vit, NEURON, images[:1], "feature-permutation")


def test_exact_shapley_values_of_many_patches_are_refused(vit, images):
    with pytest.raises(MethodError, match='every order of 16 patches; take "shapley-value-sampling"'):
        attribute(vit, NEURON, images, "shapley-values")


def test_what_captum_refuses_is_an_error_of_this_package(vit, images):
    with pytest.raises(MethodError, match='Captum\'s "occlusion" cannot be applied here'):
        attribute(vit, NEURON, images, "occlusion", sliding_window_shapes=(3, 64, 64), strides=(3, 64, 128))


def test_an_unknown_neuron_or_patch_or_too_small_an_image_is_refused(vit, images):
    with pytest.raises(AddressError):
        attribute(vit, "blocks.9:0", images)
    with pytest.raises(AddressError, match="no patch"):
        attribute(vit, NEURON, images, "saliency", patch=(4, 0))
    with pytest.raises(GridError, match="too small"):
        attribute(vit, NEURON, images[..., :4, :4])
