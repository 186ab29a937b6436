"""Captum's influence, concepts, robustness and metrics on a model that was trained, and on what it learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum import attr
from captum.concept import TCAV, Concept
from captum.influence import SimilarityInfluence, TracInCP
from captum.metrics import infidelity, sensitivity_max
from captum.robust import FGSM, PGD
from photos import SIX_PHOTOS
from test_concepts_and_metrics import MeanDifference
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import captum_vit
from captum_vit.data.images import read_image

# Captum tells at each call which hooks and flags it sets.
pytestmark = pytest.mark.filterwarnings(r"ignore:::captum\.")
SITES = ("blocks.1", "blocks.3")


@pytest.fixture
def vit():
    return captum_vit.adapt(captum_vit.load("deit_micro"))


@pytest.fixture(scope="module")
def crops():
    """Four crops of each of four photos, pixels in [0, 1], and the numbers of their photos."""
    rng, images, labels = np.random.default_rng(0), [], []
    for label, path in enumerate(SIX_PHOTOS[:4]):
        photo = torch.from_numpy(read_image(path)).permute(2, 0, 1)
        for _ in range(4):
            top, left = (int(rng.integers(0, side - 128)) for side in photo.shape[1:])
            crop = photo[None, :, top : top + 128, left : left + 128]
            images.append(nn.functional.interpolate(crop, (64, 64), mode="bilinear", antialias=True)[0])
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


def test_similarity_influence_over_two_sites_finds_crops_of_the_same_photo(vit, crops, tmp_path):
    images, labels = vit.preprocessing.normalize(crops[0]), crops[1]
    vit.layer(SITES[0]), vit.layer(SITES[1])
    influence = SimilarityInfluence(
        vit,
        [f"ffn.{site.replace('.', '_')}" for site in SITES],
        TensorDataset(images),
        str(tmp_path),
        "deit_micro",
        batch_size=4,
        similarity_direction="max",
    )
    found = influence.influence(images, top_k=2)
    for layer in influence.layers:
        nearest, _ = found[layer]
        assert nearest[:, 0].tolist() == list(range(16))  # a crop is nearest to itself
    share = np.mean([labels[found[layer][0][:, 1]].eq(labels).float().mean() for layer in influence.layers])
    assert share > 0.5  # a fifth by chance


def test_tracin_finds_the_training_image_that_taught_a_head(vit, crops, tmp_path):
    images, labels = vit.preprocessing.normalize(crops[0]), crops[1]
    with vit.collect(["blocks.3"]) as maps, torch.no_grad():
        vit(images)
    features = maps["blocks.3"].amax((2, 3))
    torch.manual_seed(0)
    head, path = nn.Linear(features.shape[1], 4), tmp_path / "head.pt"
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels).backward()
        optimizer.step()
    torch.save(head.state_dict(), path)

    def load(module, file):
        module.load_state_dict(torch.load(file))
        return 1.0

    tracin = TracInCP(
        head,
        TensorDataset(features, labels),
        [str(path)],
        load,
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        batch_size=4,
    )
    scores = tracin.influence((features, labels))
    same = labels[:, None] == labels
    assert scores[same].mean() > 0 > scores[~same].mean()


def test_a_concept_of_bright_photos_is_told_from_dark_ones(vit, crops, tmp_path):
    bright, dark = (vit.preprocessing.normalize((crops[0] * factor).clamp(0, 1)) for factor in (1.4, 0.4))
    concepts = [
        Concept(number, name, DataLoader(images, batch_size=8))
        for number, (name, images) in enumerate({"bright": bright, "dark": dark}.items())
    ]
    layer = "ffn.blocks_1"
    tcav = TCAV(
        vit,
        [layer],
        classifier=MeanDifference(),
        layer_attr_method=attr.LayerGradientXActivation(vit, None, multiply_by_inputs=False),
        save_path=str(tmp_path),
    )
    scores = tcav.interpret(vit.preprocessing.normalize(crops[0]), [concepts], target=0)
    (found,) = scores.values()
    share = found[layer]["sign_count"]
    assert share.sum() == pytest.approx(1)
    assert share.min() >= 0


@pytest.mark.parametrize("attack", [lambda neuron: FGSM(neuron, loss_func=lambda out, _: -out), PGD])
def test_an_attack_on_a_neuron_moves_its_activation(vit, crops, attack):
    neuron, images = vit.neuron("blocks.3:182"), vit.preprocessing.normalize(crops[0][:4])
    if attack is PGD:
        adversary = PGD(neuron, loss_func=lambda out, _: -out)
        moved = adversary.perturb(images, radius=0.1, step_size=0.02, step_num=4, target=0, targeted=True)
    else:
        moved = attack(neuron).perturb(images, epsilon=0.02, target=0, targeted=True)
    assert (moved - images).abs().max() <= 0.1 + 1e-4
    assert (neuron(moved) > neuron(images)).all()


def test_the_measures_tell_an_attribution_from_noise(vit, crops):
    neuron, images = vit.neuron("blocks.3:182"), vit.preprocessing.normalize(crops[0][:2])
    gradients = attr.Saliency(neuron).attribute(images.requires_grad_(), abs=False).detach()
    images = images.detach()

    def perturb(inputs):
        noise = torch.randn_like(inputs, generator=None) * 0.003
        return noise, inputs - noise

    torch.manual_seed(0)
    true = infidelity(neuron, perturb, images, gradients, n_perturb_samples=20)
    torch.manual_seed(0)
    shuffled = gradients.flatten(1)[:, torch.randperm(gradients[0].numel())].reshape(gradients.shape)
    torch.manual_seed(0)
    assert (true < infidelity(neuron, perturb, images, shuffled, n_perturb_samples=20)).all()
    saliency = attr.Saliency(neuron)
    assert sensitivity_max(saliency.attribute, images.requires_grad_(), perturb_radius=0.01).isfinite().all()
