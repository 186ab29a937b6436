"""Captum's layer methods at a site of each family."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from by_hand import NEURON, TARGET, Case, gauss_legendre, gradient, per_image, without_softmax_modules
from captum import attr

# Captum tells at each call which hooks and flags it sets.
pytestmark = pytest.mark.filterwarnings(r"ignore:::captum\.")

STEPS = 6

# Each method on the score of a class, with what it needs besides the model and the layer.
LAYER_METHODS = {
    attr.LayerActivation: lambda method, case: method.attribute(case.images),
    attr.LayerConductance: lambda method, case: method.attribute(
        case.images, case.baselines, target=TARGET, n_steps=STEPS
    ),
    attr.LayerIntegratedGradients: lambda method, case: method.attribute(
        case.images, case.baselines, target=TARGET, n_steps=STEPS
    ),
    attr.LayerGradientXActivation: lambda method, case: method.attribute(case.images, target=TARGET),
    attr.LayerGradCam: lambda method, case: method.attribute(case.images, target=TARGET),
    attr.InternalInfluence: lambda method, case: method.attribute(
        case.images, case.baselines, target=TARGET, n_steps=STEPS
    ),
    attr.LayerDeepLift: lambda method, case: method.attribute(case.images, case.baselines, target=TARGET),
    attr.LayerDeepLiftShap: lambda method, case: method.attribute(case.images, case.baselines, target=TARGET),
    attr.LayerGradientShap: lambda method, case: method.attribute(
        case.images, case.baselines, target=TARGET, n_samples=3
    ),
    attr.LayerFeatureAblation: lambda method, case: method.attribute(
        case.images, target=TARGET, layer_mask=case.unit_mask // 16
    ),
    attr.LayerFeaturePermutation: lambda method, case: method.attribute(case.images, layer_mask=case.unit_mask // 16),
    attr.GuidedGradCam: lambda method, case: method.attribute(case.images, target=TARGET),
}


def make(method, case):
    # LayerFeaturePermutation applies target= twice, so it takes a function that has chosen the class already.
    if method is attr.LayerFeaturePermutation:
        return method(lambda images: case.vit(images)[:, TARGET], case.layer)
    return method(case.vit, case.layer)


@pytest.mark.parametrize("method", LAYER_METHODS, ids=lambda method: method.__name__)
def test_attributions_have_the_maps_shape_and_leave_the_model_as_it_was(method, case: Case):
    attributions = LAYER_METHODS[method](make(method, case), case)
    shape = {
        attr.LayerGradCam: (2, 1, *case.place.grid),
        attr.GuidedGradCam: case.images.shape,
    }.get(method, (2, case.place.units, *case.place.grid))
    assert attributions.shape == shape
    assert attributions.isfinite().all()
    assert attributions.any()
    assert torch.equal(case.vit(case.images), case.plain(case.images))


def test_activation_is_what_the_second_linear_layer_reads(case: Case):
    assert torch.equal(attr.LayerActivation(case.vit, case.layer).attribute(case.images), case.activation(case.images))


def test_gradient_x_activation_is_plain_autograds(case: Case):
    attributions = attr.LayerGradientXActivation(case.vit, case.layer).attribute(case.images, target=TARGET)
    torch.testing.assert_close(attributions, case.score_gradient(case.images) * case.activation(case.images))
    gradients = attr.LayerGradientXActivation(case.vit, case.layer, multiply_by_inputs=False)
    torch.testing.assert_close(gradients.attribute(case.images, target=TARGET), case.score_gradient(case.images))


def test_grad_cam_weighs_units_by_their_mean_gradient_over_patches(case: Case):
    weights = case.score_gradient(case.images).mean((2, 3), keepdim=True)
    cam = (weights * case.activation(case.images)).sum(1, keepdim=True)
    layer_cam = attr.LayerGradCam(case.vit, case.layer)
    torch.testing.assert_close(layer_cam.attribute(case.images, target=TARGET), cam)
    # No activation here is a ReLU, so guided backpropagation is the plain gradient.
    enlarged = torch.nn.functional.interpolate(cam.relu(), case.image_size, mode="nearest")
    guided = attr.GuidedGradCam(case.vit, case.layer).attribute(case.images, target=TARGET)
    torch.testing.assert_close(guided, enlarged * gradient(case.score, case.images))


def test_internal_influence_is_the_mean_gradient_along_the_path(case: Case):
    attributions = attr.InternalInfluence(case.vit, case.layer).attribute(
        case.images, case.baselines, target=TARGET, n_steps=STEPS
    )
    mean = sum(weight * case.score_gradient(case.path(alpha)) for alpha, weight in gauss_legendre(STEPS))
    torch.testing.assert_close(attributions, mean, rtol=1e-5, atol=1e-9)  # Captum's step sizes are single precision


def test_conductance_is_the_gradient_times_the_change_of_activation_along_the_path(case: Case):
    attributions = attr.LayerConductance(case.vit, case.layer).attribute(
        case.images, case.baselines, target=TARGET, n_steps=STEPS
    )
    path = [case.path(alpha) for alpha, _ in gauss_legendre(STEPS + 1)]
    maps = [case.activation(images) for images in path]
    changes = [after - before for before, after in pairwise(maps)]
    # Captum takes the gradient at the beginning of each step.
    by_hand = sum(case.score_gradient(images) * change for images, change in zip(path, changes, strict=False))
    torch.testing.assert_close(attributions, by_hand)


def test_integrated_gradients_sum_to_what_the_sites_change_alone_does_to_the_score(case: Case):
    # The residual stream carries the rest of the score's difference past the site.
    attributions = attr.LayerIntegratedGradients(case.vit, case.layer).attribute(
        case.images, case.baselines, target=TARGET, n_steps=24
    )
    without = case.score_given(case.images, case.activation(case.baselines))
    # Gauss-Legendre with 24 points on a smooth path; single precision of Captum's step sizes is what is left.
    torch.testing.assert_close(per_image(attributions), case.score(case.images) - without, rtol=1e-4, atol=1e-6)


def test_deep_lift_without_a_rule_for_any_module_is_gradient_times_difference(case: Case):
    case = without_softmax_modules(case)
    attributions, delta = attr.LayerDeepLift(case.vit, case.layer).attribute(
        case.images, case.baselines, target=TARGET, return_convergence_delta=True
    )
    change = case.activation(case.images) - case.activation(case.baselines)
    torch.testing.assert_close(attributions, case.score_gradient(case.images) * change)
    difference = case.score(case.images) - case.score(case.baselines)
    torch.testing.assert_close(delta, per_image(attributions) - difference)


def test_deep_lift_shap_is_the_mean_of_deep_lift_over_baselines(case: Case):
    case = without_softmax_modules(case)
    shap = attr.LayerDeepLiftShap(case.vit, case.layer).attribute(case.images, case.baselines, target=TARGET)
    lift = attr.LayerDeepLift(case.vit, case.layer)
    singly = [
        lift.attribute(case.images, baseline.expand_as(case.images), target=TARGET) for baseline in case.baselines
    ]
    torch.testing.assert_close(shap, torch.stack(singly).mean(0))


def test_ablating_a_unit_is_setting_it_to_zero(case: Case):
    unit = NEURON[0]
    only_one = (case.unit_mask == unit).long()
    attributions = attr.LayerFeatureAblation(case.vit, case.layer).attribute(
        case.images, target=TARGET, layer_mask=only_one
    )
    zeroed = case.activation(case.images)
    zeroed[:, unit] = 0
    effect = case.score(case.images) - case.score_given(case.images, zeroed)
    torch.testing.assert_close(attributions[:, unit], effect[:, None, None].expand(2, *case.place.grid))


def test_permuting_a_unit_is_swapping_it_between_images(case: Case):
    unit = NEURON[0]
    only_one = (case.unit_mask == unit).long()
    attributions = make(attr.LayerFeaturePermutation, case).attribute(case.images, layer_mask=only_one)
    swapped = case.activation(case.images)
    swapped[:, unit] = swapped[:, unit].flip(0)  # of two images there is one permutation
    effect = case.score(case.images) - case.score_given(case.images, swapped)
    torch.testing.assert_close(attributions[:, unit], effect[:, None, None].expand(2, *case.place.grid))


COMPLETE = {
    attr.LayerConductance: {"n_steps": STEPS},
    attr.LayerIntegratedGradients: {"n_steps": STEPS},
    attr.LayerDeepLift: {},
    attr.LayerDeepLiftShap: {},
    attr.LayerGradientShap: {"n_samples": 3},
}


@pytest.mark.parametrize("method", COMPLETE, ids=lambda method: method.__name__)
def test_attributions_are_complete_where_nothing_bypasses_the_site(method, case: Case):
    # Everything that a neuron depends on passes its own site.
    same = case.baselines[:1].expand_as(case.images)
    attributions, delta = method(case.neuron, case.layer).attribute(
        case.images, same, return_convergence_delta=True, **COMPLETE[method]
    )
    unit, row, column = NEURON
    difference = case.neuron_activation(case.images) - case.neuron_activation(same)
    if method is attr.LayerConductance:
        # Its steps begin and end a little inside the path; what is missing is in the delta.
        torch.testing.assert_close(per_image(attributions) - delta, difference)
    else:
        torch.testing.assert_close(per_image(attributions), difference, rtol=1e-6, atol=1e-6)
        assert delta.abs().max() < 1e-6
    attributions[:, unit, row, column] = 0
    assert not attributions.any()


def test_attributions_of_a_nonlinear_function_of_the_map_are_complete(case: Case):
    def energy(images):
        with case.vit.until(case.place.site):
            return case.vit(images).pow(2).sum((1, 2, 3))

    difference = case.activation(case.images).pow(2).sum((1, 2, 3)) - case.activation(case.baselines).pow(2).sum(
        (1, 2, 3)
    )
    integrated = attr.LayerIntegratedGradients(energy, case.layer).attribute(case.images, case.baselines, n_steps=STEPS)
    torch.testing.assert_close(per_image(integrated), difference, rtol=1e-6, atol=1e-6)

    conductance = attr.LayerConductance(energy, case.layer)
    deltas = []
    for steps in (40, 80):
        attributions, delta = conductance.attribute(
            case.images, case.baselines, n_steps=steps, return_convergence_delta=True
        )
        torch.testing.assert_close(per_image(attributions) - delta, difference)
        deltas.append(delta.abs())
    # One-sided steps converge with the first order: twice the steps, half the delta.
    assert (deltas[1] < 0.6 * deltas[0]).all()


@pytest.mark.parametrize(
    "method",
    [
        attr.LayerActivation,
        attr.LayerConductance,
        attr.LayerDeepLift,
        attr.LayerFeatureAblation,
        attr.LayerGradCam,
        attr.LayerGradientXActivation,
        attr.LayerIntegratedGradients,
    ],
    ids=lambda method: method.__name__,
)
def test_a_probes_input_and_output_get_the_same_attributions(method, case: Case):
    run = LAYER_METHODS[method]
    at_output = run(method(case.vit, case.layer), case)

    class AtInput(method):
        def attribute(self, *args, **settings):
            return super().attribute(*args, **settings, attribute_to_layer_input=True)

    torch.testing.assert_close(run(AtInput(case.vit, case.layer), case), at_output)


def test_several_layers_at_once(case: Case):
    first, second = case.vit.sites[0].name, case.place.site
    layers = [case.vit.layer(first), case.vit.layer(second)]
    together = attr.LayerGradientXActivation(case.vit, layers).attribute(case.images, target=TARGET)
    for layer, attributions in zip(layers, together, strict=True):
        alone = attr.LayerGradientXActivation(case.vit, layer).attribute(case.images, target=TARGET)
        torch.testing.assert_close(attributions, alone)


def test_a_neuron_of_a_deeper_site_is_attributed_to_an_earlier_one(case: Case):
    deeper, unit = case.vit.sites[-1], NEURON[0]
    attributions = attr.LayerGradientXActivation(case.vit.neuron(f"{deeper.name}:{unit}"), case.layer).attribute(
        case.images
    )
    read = []
    block = case.plain.get_submodule(deeper.name)
    hook = getattr(block, "mlp", block).fc2.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    _, tokens = case.tokens(case.images)
    hook.remove()
    activation = read[-1][:, deeper.prefix_tokens :, unit].mean(1)
    slope = case.as_map(torch.autograd.grad(activation.sum(), tokens)[0])
    torch.testing.assert_close(attributions, slope * case.activation(case.images))
