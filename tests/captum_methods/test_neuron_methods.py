"""Captum's neuron methods, which select a neuron at a probe by (unit, row, column)."""

from __future__ import annotations

import pytest
import torch
from by_hand import NEURON, PLACES, TARGET, Case, gauss_legendre, gradient, per_image, seed, without_softmax_modules
from captum import attr

# Captum tells at each call which hooks and flags it sets.
pytestmark = pytest.mark.filterwarnings(r"ignore:::captum\.")

NEURON_METHODS = {
    attr.NeuronGradient: lambda method, case: method.attribute(case.images, NEURON),
    attr.NeuronGuidedBackprop: lambda method, case: method.attribute(case.images, NEURON),
    attr.NeuronDeconvolution: lambda method, case: method.attribute(case.images, NEURON),
    attr.NeuronIntegratedGradients: lambda method, case: method.attribute(
        case.images, NEURON, case.baselines, n_steps=24
    ),
    attr.NeuronConductance: lambda method, case: method.attribute(
        case.images, NEURON, case.baselines, target=TARGET, n_steps=6, method="gausslegendre"
    ),
    attr.NeuronDeepLift: lambda method, case: method.attribute(case.images, NEURON, case.baselines),
    attr.NeuronDeepLiftShap: lambda method, case: method.attribute(case.images, NEURON, case.baselines),
    attr.NeuronGradientShap: lambda method, case: method.attribute(case.images, NEURON, case.baselines, n_samples=3),
    attr.NeuronFeatureAblation: lambda method, case: method.attribute(
        case.images, NEURON, case.baselines, feature_mask=case.patch_mask
    ),
}


def attribute(method, case: Case):
    return NEURON_METHODS[method](method(case.vit, case.layer), case)


@pytest.mark.parametrize("method", NEURON_METHODS, ids=lambda method: method.__name__)
def test_attributions_have_the_images_shape_and_leave_the_model_as_it_was(method, case: Case):
    attributions = attribute(method, case)
    assert attributions.shape == case.images.shape
    assert attributions.isfinite().all()
    assert attributions.any()
    assert torch.equal(case.vit(case.images), case.plain(case.images))


@pytest.mark.parametrize(
    "method", [method for method in NEURON_METHODS if method is not attr.NeuronConductance], ids=lambda m: m.__name__
)
def test_a_pass_that_stops_at_the_site_gives_the_same_attributions(method, case: Case):
    # All but conductance, which needs the score of a class.
    seed()
    full = attribute(method, case)
    seed()
    with case.vit.until(case.place.site):
        stopped = attribute(method, case)
    torch.testing.assert_close(stopped, full)


@pytest.mark.parametrize(
    "method", [attr.NeuronGradient, attr.NeuronGuidedBackprop, attr.NeuronDeconvolution], ids=lambda m: m.__name__
)
def test_gradients_are_plain_autograds(method, case: Case):
    # Guided backpropagation and deconvolution change nothing but ReLU modules, and these models have none.
    torch.testing.assert_close(attribute(method, case), case.neuron_gradient(case.images))


def test_integrated_gradients_sum_to_the_change_of_activation(case: Case):
    difference = case.neuron_activation(case.images) - case.neuron_activation(case.baselines)
    attributions = attribute(attr.NeuronIntegratedGradients, case)
    torch.testing.assert_close(per_image(attributions), difference, rtol=1e-5, atol=1e-6)


def test_conductance_is_the_chain_rule_along_the_path(case: Case):
    unit, row, column = NEURON
    by_hand = torch.zeros_like(case.images)
    for alpha, weight in gauss_legendre(6):
        at = case.path(alpha)
        behind = case.score_gradient(at)[:, unit, row, column, None, None, None]
        by_hand += weight * behind * case.neuron_gradient(at) * (case.images - case.baselines)
    # Captum's step sizes are single precision.
    torch.testing.assert_close(attribute(attr.NeuronConductance, case), by_hand, rtol=1e-5, atol=1e-9)


def test_deep_lift_without_a_rule_for_any_module_is_gradient_times_difference(case: Case):
    case = without_softmax_modules(case)
    slope = case.neuron_gradient(case.images)
    torch.testing.assert_close(attribute(attr.NeuronDeepLift, case), slope * (case.images - case.baselines))
    mean_difference = case.images - case.baselines.mean(0)
    torch.testing.assert_close(attribute(attr.NeuronDeepLiftShap, case), slope * mean_difference)


def test_gradient_shap_is_complete_in_expectation(case: Case):
    samples = 40
    method = attr.NeuronGradientShap(case.vit, case.layer)
    baseline = case.baselines[:1]
    seed()
    attributions = method.attribute(case.images, NEURON, baseline, n_samples=samples)
    difference = case.neuron_activation(case.images) - case.neuron_activation(baseline)
    along = torch.stack(
        [
            per_image(case.neuron_gradient(baseline + alpha * (case.images - baseline)) * (case.images - baseline))
            for alpha in torch.linspace(0, 1, 41)
        ]
    )
    # Five standard errors of a mean over that many points of the path.
    assert ((per_image(attributions) - difference).abs() < 5 * along.std(0) / samples**0.5).all()


def test_ablating_a_patch_is_giving_it_the_baselines_pixels(case: Case):
    attributions = attribute(attr.NeuronFeatureAblation, case)
    for patch in (0, 6):
        inside = (case.patch_mask == patch).expand_as(case.images)
        ablated = torch.where(inside, case.baselines, case.images)
        effect = case.neuron_activation(case.images) - case.neuron_activation(ablated)
        expected = effect[:, None].expand(2, int(inside[0].sum()))
        torch.testing.assert_close(attributions[inside].view(2, -1), expected)


@pytest.mark.parametrize(
    "case", [family for family, place in PLACES.items() if place.prefix_tokens], indirect=True, scope="session"
)
def test_the_prefix_tokens_neurons_are_selected_by_token(case: Case):
    unit = NEURON[0]
    attributions = attr.NeuronGradient(case.vit, case.vit.prefix_layer(case.place.site)).attribute(
        case.images, (unit, 0, 0)
    )
    torch.testing.assert_close(attributions, gradient(lambda images: case.tokens(images)[1][:, 0, unit], case.images))
