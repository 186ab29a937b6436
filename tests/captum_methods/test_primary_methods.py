"""Captum's methods for the input, with a neuron as the function that they explain."""

from __future__ import annotations

from itertools import cycle

import pytest
import torch
from by_hand import NEURON, Case, build, gradient, per_image, seed, without_softmax_modules
from captum import attr
from captum._utils.models.linear_model import SkLearnLinearRegression
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import captum_vit

# Captum tells at each call which hooks and flags it sets.
pytestmark = pytest.mark.filterwarnings(r"ignore:::captum\.")

COALITIONS = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])


def halves(case: Case) -> Tensor:
    """Captum's ``feature_mask`` of two features, the upper and the lower half of the image."""
    height, width = case.image_size
    lower = torch.arange(height) >= height // 2
    return lower.long()[None, None, :, None].repeat(1, 3, 1, width)


def surrogate(case: Case) -> dict[str, object]:
    """Settings that make a linear surrogate see every coalition of two features once, each with the same weight."""
    coalitions = cycle(COALITIONS[:, None])
    return {
        "interpretable_model": SkLearnLinearRegression(),
        "similarity_func": lambda original, perturbed, interpretable, **settings: 1.0,
        "perturb_func": lambda original, **settings: next(coalitions),
    }


def lime_base(case: Case) -> Tensor:
    """Coefficients of the two halves, spread over the pixels: LimeBase explains one image in features of one's own."""
    mask = halves(case)
    attributions = []
    for image, baseline in zip(case.images.split(1), case.baselines.split(1), strict=True):
        method = attr.LimeBase(
            case.neuron,
            perturb_interpretable_space=True,
            from_interp_rep_transform=lambda kept, original, baseline=baseline, **settings: torch.where(
                kept[0][mask].bool(), original, baseline
            ),
            to_interp_rep_transform=None,
            **surrogate(case),
        )
        attributions.append(method.attribute(image, n_samples=4)[0][mask])
    return torch.cat(attributions)


def over_data_loader(case: Case) -> Tensor:
    """The effect of each patch on the neuron in every image of a data set."""
    batches = DataLoader(TensorDataset(case.images), batch_size=1)
    method = attr.DataLoaderAttribution(attr.FeatureAblation(case.neuron))
    (attributions,) = method.attribute(batches, feature_mask=case.patch_mask.repeat(1, 3, 1, 1))
    return attributions


PRIMARY_METHODS = {
    attr.Saliency: lambda case: attr.Saliency(case.neuron).attribute(case.images),
    attr.InputXGradient: lambda case: attr.InputXGradient(case.neuron).attribute(case.images),
    attr.IntegratedGradients: lambda case: attr.IntegratedGradients(case.neuron).attribute(
        case.images, case.baselines, n_steps=24
    ),
    attr.GradientShap: lambda case: attr.GradientShap(case.neuron).attribute(
        case.images, case.baselines[:1], n_samples=40
    ),
    attr.DeepLift: lambda case: attr.DeepLift(case.neuron).attribute(case.images, case.baselines),
    attr.DeepLiftShap: lambda case: attr.DeepLiftShap(case.neuron).attribute(case.images, case.baselines),
    attr.GuidedBackprop: lambda case: attr.GuidedBackprop(case.neuron).attribute(case.images),
    attr.Deconvolution: lambda case: attr.Deconvolution(case.neuron).attribute(case.images),
    attr.FeatureAblation: lambda case: attr.FeatureAblation(case.neuron).attribute(
        case.images, case.baselines, feature_mask=case.patch_mask
    ),
    attr.FeaturePermutation: lambda case: attr.FeaturePermutation(case.neuron).attribute(
        case.images, feature_mask=case.patch_mask
    ),
    attr.Occlusion: lambda case: attr.Occlusion(case.neuron).attribute(
        case.images, (3, 16, 16), strides=(3, 16, 16), baselines=case.baselines
    ),
    attr.ShapleyValueSampling: lambda case: attr.ShapleyValueSampling(case.neuron).attribute(
        case.images, case.baselines, feature_mask=case.patch_mask, n_samples=2
    ),
    attr.ShapleyValues: lambda case: attr.ShapleyValues(case.neuron).attribute(
        case.images, case.baselines, feature_mask=halves(case)
    ),
    attr.KernelShap: lambda case: attr.KernelShap(case.neuron).attribute(
        case.images, case.baselines, feature_mask=halves(case), n_samples=20
    ),
    attr.Lime: lambda case: attr.Lime(case.neuron, **surrogate(case)).attribute(
        case.images, case.baselines, feature_mask=halves(case), n_samples=4
    ),
    attr.LimeBase: lime_base,
    attr.NoiseTunnel: lambda case: attr.NoiseTunnel(attr.Saliency(case.neuron)).attribute(
        case.images, nt_samples=3, stdevs=0.1
    ),
    attr.DataLoaderAttribution: over_data_loader,
}


def attribute(method, case: Case) -> Tensor:
    seed()
    return PRIMARY_METHODS[method](case)


def effect(case: Case, inside: Tensor, instead: Tensor) -> Tensor:
    """What the neuron loses when the pixels in ``inside`` are those of ``instead``."""
    changed = torch.where(inside, instead, case.images)
    return case.neuron_activation(case.images) - case.neuron_activation(changed)


def difference(case: Case) -> Tensor:
    return case.neuron_activation(case.images) - case.neuron_activation(case.baselines)


@pytest.mark.parametrize("method", PRIMARY_METHODS, ids=lambda method: method.__name__)
def test_attributions_have_the_images_shape_and_leave_the_model_as_it_was(method, case: Case):
    attributions = attribute(method, case)
    assert attributions.shape == case.images.shape
    assert attributions.isfinite().all()
    assert attributions.any()
    assert torch.equal(case.vit(case.images), case.plain(case.images))


def test_gradients_are_plain_autograds(case: Case):
    slope = case.neuron_gradient(case.images)
    torch.testing.assert_close(attribute(attr.Saliency, case), slope.abs())
    torch.testing.assert_close(attribute(attr.InputXGradient, case), slope * case.images)
    # Guided backpropagation and deconvolution change nothing but ReLU modules, and these models have none.
    torch.testing.assert_close(attribute(attr.GuidedBackprop, case), slope)
    torch.testing.assert_close(attribute(attr.Deconvolution, case), slope)


def test_without_a_patch_the_neuron_is_the_mean_over_patches(case: Case):
    unit = NEURON[0]
    neuron = case.vit.neuron(f"{case.place.site}:{unit}")
    mean = gradient(lambda images: case.activation(images)[:, unit].mean((1, 2)), case.images)
    torch.testing.assert_close(attr.Saliency(neuron).attribute(case.images, abs=False), mean)


class GuidedReLU(torch.autograd.Function):
    """ReLU whose backward pass lets only positive gradients to positive inputs (Springenberg et al. 2015)."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.relu()

    @staticmethod
    def backward(ctx, grad):
        return grad.relu() * (ctx.saved_tensors[0] > 0)


class DeconvolvedReLU(GuidedReLU):
    """ReLU whose backward pass lets positive gradients through (Zeiler & Fergus 2014)."""

    @staticmethod
    def backward(ctx, grad):
        return grad.relu()


@pytest.mark.parametrize(("method", "relu"), [(attr.GuidedBackprop, GuidedReLU), (attr.Deconvolution, DeconvolvedReLU)])
def test_guided_methods_do_their_work_in_a_transformer_with_relu(method, relu, monkeypatch):
    images = torch.randn(2, 3, 32, 32, dtype=torch.double)
    model = build("deit", act_layer=nn.ReLU)
    attributions = method(captum_vit.adapt(model).neuron("blocks.1:3")).attribute(images)
    captum_vit.restore(model)

    def activation(images):
        read = []
        hook = model.blocks[1].mlp.fc2.register_forward_pre_hook(lambda module, args: read.append(args[0]))
        model(images)
        hook.remove()
        return read[0][:, 1:, 3].mean(1)

    plain = gradient(activation, images)
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, inputs: relu.apply(inputs))
    torch.testing.assert_close(attributions, gradient(activation, images))
    assert not torch.allclose(attributions, plain)


def test_integrated_gradients_are_complete(case: Case):
    attributions, delta = attr.IntegratedGradients(case.neuron).attribute(
        case.images, case.baselines, n_steps=24, return_convergence_delta=True
    )
    # On these smooth paths 24 Gauss-Legendre points are exact but for Captum's step sizes in single precision.
    torch.testing.assert_close(per_image(attributions), difference(case), rtol=1e-5, atol=1e-6)
    assert delta.abs().max() < 1e-5


def test_gradient_shap_is_complete_in_expectation(case: Case):
    baseline = case.baselines[:1]
    along = torch.stack(
        [
            per_image(case.neuron_gradient(baseline + alpha * (case.images - baseline)) * (case.images - baseline))
            for alpha in torch.linspace(0, 1, 21)
        ]
    )
    change = case.neuron_activation(case.images) - case.neuron_activation(baseline)
    # Five standard errors of a mean over 40 points of the path.
    assert ((per_image(attribute(attr.GradientShap, case)) - change).abs() < 5 * along.std(0) / 40**0.5).all()


def test_deep_lift_without_a_rule_for_any_module_is_gradient_times_difference(case: Case):
    case = without_softmax_modules(case)
    slope = case.neuron_gradient(case.images)
    torch.testing.assert_close(attribute(attr.DeepLift, case), slope * (case.images - case.baselines))
    torch.testing.assert_close(attribute(attr.DeepLiftShap, case), slope * (case.images - case.baselines.mean(0)))


def test_ablating_a_patch_is_giving_it_the_baselines_pixels(case: Case):
    inside = (case.patch_mask == 6).expand_as(case.images)
    for method in (attr.FeatureAblation, attr.DataLoaderAttribution):
        instead = case.baselines if method is attr.FeatureAblation else torch.zeros_like(case.images)
        attributions = attribute(method, case)[inside].view(2, -1)
        expected = effect(case, inside, instead)[:, None].expand_as(attributions)
        torch.testing.assert_close(attributions, expected, check_dtype=False)


def test_permuting_a_patch_is_swapping_it_between_images(case: Case):
    inside = (case.patch_mask == 6).expand_as(case.images)
    attributions = attribute(attr.FeaturePermutation, case)[inside].view(2, -1)
    expected = effect(case, inside, case.images.flip(0))  # of two images there is one permutation
    torch.testing.assert_close(attributions, expected[:, None].expand_as(attributions))


def test_occluding_a_window_is_giving_it_the_baselines_pixels(case: Case):
    inside = torch.zeros_like(case.images, dtype=torch.bool)
    inside[:, :, 16:32, :16] = True
    attributions = attribute(attr.Occlusion, case)[inside].view(2, -1)
    expected = effect(case, inside, case.baselines)[:, None].expand_as(attributions)
    torch.testing.assert_close(attributions, expected, check_dtype=False)


def test_sampled_shapley_values_of_patches_are_complete(case: Case):
    attributions = attribute(attr.ShapleyValueSampling, case)
    rows, columns = case.place.grid
    pixels = case.patch_mask.flatten()
    of_patches = torch.stack(
        [attributions[:, 0].flatten(1)[:, (pixels == patch).nonzero()[0, 0]] for patch in range(rows * columns)], dim=1
    )
    torch.testing.assert_close(of_patches.sum(1), difference(case), check_dtype=False, rtol=1e-5, atol=1e-6)


def effects_of_halves(case: Case) -> tuple[Tensor, Tensor]:
    """What each half of the image adds ``(B, half)``, to the baselines and to the other half."""
    upper = (halves(case) == 0).expand_as(case.images)
    both, none = case.neuron_activation(case.images), case.neuron_activation(case.baselines)
    only_upper = case.neuron_activation(torch.where(upper, case.images, case.baselines))
    only_lower = case.neuron_activation(torch.where(upper, case.baselines, case.images))
    alone = torch.stack([only_upper - none, only_lower - none], dim=1)
    together = torch.stack([both - only_lower, both - only_upper], dim=1)
    return alone, together


def of_halves(attributions: Tensor) -> Tensor:
    return torch.stack([attributions[:, 0, 0, 0], attributions[:, 0, -1, 0]], dim=1).double()


@pytest.mark.parametrize("method", [attr.ShapleyValues, attr.Lime, attr.LimeBase], ids=lambda method: method.__name__)
def test_two_features_have_their_shapley_values(method, case: Case):
    # For two features they are also the coefficients of a linear fit to all four coalitions.
    values = torch.stack(effects_of_halves(case)).mean(0)
    torch.testing.assert_close(of_halves(attribute(method, case)), values, rtol=1e-5, atol=1e-6)


def test_kernel_shap_is_complete_and_weighs_a_features_two_effects_by_its_draws(case: Case):
    values = of_halves(attribute(attr.KernelShap, case))
    # Completeness is a weight of a million against 20 draws.
    torch.testing.assert_close(values.sum(1), difference(case), rtol=1e-4, atol=1e-5)
    low, high = torch.stack(effects_of_halves(case)).aminmax(dim=0)
    assert (low - 1e-5 < values).all()
    assert (values < high + 1e-5).all()


def test_a_noise_tunnel_without_noise_is_the_method_itself(case: Case):
    tunnel = attr.NoiseTunnel(attr.Saliency(case.neuron))
    still = tunnel.attribute(case.images, nt_samples=2, stdevs=0.0)
    torch.testing.assert_close(still, case.neuron_gradient(case.images).abs())
    assert not torch.allclose(attribute(attr.NoiseTunnel, case), still)
