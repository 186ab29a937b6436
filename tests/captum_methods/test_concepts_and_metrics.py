"""Concept activation vectors at a site, and Captum's measures of how good an attribution is."""

from __future__ import annotations

import pytest
import torch
from by_hand import TARGET, Case, build, per_image
from captum import attr
from captum.concept import TCAV, Concept
from captum.concept._utils.classifier import Classifier
from captum.metrics import infidelity, sensitivity_max
from families import SIX_FAMILIES
from torch.utils.data import DataLoader

import captum_vit

# Captum tells at each call which hooks and flags it sets.
pytestmark = pytest.mark.filterwarnings(r"ignore:::captum\.")


class MeanDifference(Classifier):
    """The concept's vector is the difference of the two concepts' mean activations."""

    def __init__(self):
        self.vectors = torch.empty(0)
        self.labels = []

    def train_and_eval(self, dataloader, **settings):
        batches = list(dataloader)
        activations, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        self.labels = labels.unique().tolist()
        first, second = (activations[labels == label].mean(0) for label in self.labels)
        self.vectors = torch.stack([first - second, second - first])

    def weights(self):
        return self.vectors

    def classes(self):
        return self.labels


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_tcav_counts_the_images_whose_score_rises_with_the_concept(family, tmp_path):
    case = Case(family)
    vit = captum_vit.adapt(build(family).float())  # TCAV's vectors are single precision
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 6, 3, *case.image_size, generator=generator)
    bright, plain = noise[0] + 1, noise[1]
    concepts = [
        Concept(i, name, DataLoader(images, batch_size=3))
        for i, (name, images) in enumerate({"bright": bright, "plain": plain}.items())
    ]
    layer = f"ffn.{case.place.site.replace('.', '_')}"
    images = torch.randn(8, 3, *case.image_size, generator=generator)
    tcav = TCAV(
        vit,
        [layer],
        classifier=MeanDifference(),
        layer_attr_method=attr.LayerGradientXActivation(vit, None, multiply_by_inputs=False),
        save_path=str(tmp_path),
    )
    scores = tcav.interpret(images, [concepts], target=TARGET)["0-1"][layer]

    vector = case.activation(bright.double()).mean(0) - case.activation(plain.double()).mean(0)
    slopes = per_image(case.score_gradient(images.double()) * vector)
    torch.testing.assert_close(scores["magnitude"][0].double(), slopes.mean(), rtol=1e-3, atol=1e-5)
    assert scores["sign_count"].tolist() == [(slopes > 0).double().mean(), (slopes < 0).double().mean()]


def test_infidelity_of_a_neurons_gradient_is_that_of_its_first_order_approximation(case: Case):
    step = 1e-4 * case.neuron_gradient(case.images).sign()

    def perturb(inputs):
        return step, inputs - step

    slope = attr.Saliency(case.neuron).attribute(case.images, abs=False)
    found = infidelity(case.neuron, perturb, case.images, slope, n_perturb_samples=1)
    change = case.neuron_activation(case.images) - case.neuron_activation(case.images - step)
    by_hand = (per_image(step * case.neuron_gradient(case.images)) - change).square()
    torch.testing.assert_close(found, by_hand)
    # An attribution that says nothing misses the whole change.
    nothing = infidelity(case.neuron, perturb, case.images, torch.zeros_like(slope), n_perturb_samples=1)
    torch.testing.assert_close(nothing, change.square())
    assert (found < 0.1 * nothing).all()


def test_sensitivity_of_a_neurons_gradient_is_its_greatest_relative_change(case: Case):
    moved = case.images + 0.02
    found = sensitivity_max(
        attr.Saliency(case.neuron).attribute, case.images, perturb_func=lambda inputs: moved, n_perturb_samples=1
    )
    here, there = case.neuron_gradient(case.images).abs(), case.neuron_gradient(moved).abs()
    torch.testing.assert_close(found, (there - here).flatten(1).norm(dim=1) / here.flatten(1).norm(dim=1))


def test_sensitivity_of_a_layer_method(case: Case):
    moved = case.images + 0.02
    layer_cam = attr.LayerGradCam(case.vit, case.layer)
    # sensitivity_max passes a tuple and expects one back, which layer methods do not give.
    found = sensitivity_max(
        lambda inputs, **settings: (layer_cam.attribute(inputs, **settings),),
        case.images,
        perturb_func=lambda inputs: moved,
        n_perturb_samples=1,
        target=TARGET,
    )

    def cam(images):
        weights = case.score_gradient(images).mean((2, 3), keepdim=True)
        return (weights * case.activation(images)).sum(1).flatten(1)

    here, there = cam(case.images), cam(moved)
    torch.testing.assert_close(found, (there - here).norm(dim=1) / here.norm(dim=1))
