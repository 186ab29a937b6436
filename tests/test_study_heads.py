"""A model's own head is found by the names of its outputs, whichever library it is of, and so is what it reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
import transformers
from families import TINY_MODELS
from torch import Tensor
from torchvision.models.resnet import BasicBlock

import captum_vit
from captum_vit.studies import find_classifier
from captum_vit.studies.heads import features, outputs_of, place_of

pytestmark = pytest.mark.filterwarnings("ignore::captum_vit.errors.PreprocessingWarning")
SHAPE = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 16,
}


def of_transformers(*names: str) -> transformers.ViTForImageClassification:
    config = transformers.ViTConfig(**SHAPE, id2label=dict(enumerate(names)))
    return transformers.ViTForImageClassification(config).eval()


def of_torchvision(classes: int) -> torchvision.models.VisionTransformer:
    return torchvision.models.VisionTransformer(32, 16, 1, 3, 24, 48, num_classes=classes).eval()


def test_heads_of_transformers_are_known_by_their_configuration_synonyms_too() -> None:
    with captum_vit.adapt(of_transformers("tench, Tinca tinca", "sea_lion", "crane", "Crane, machine")) as vit:
        outputs = outputs_of(vit)
    assert {label: place_of(label, outputs) for label in ("tench", "Tinca_tinca", "Sea lion", "machine")} == {
        "tench": 0,
        "Tinca_tinca": 0,
        "Sea lion": 1,
        "machine": 3,
    }
    assert place_of("crane", outputs) is None  # which of the two?


@pytest.mark.parametrize(
    ("label", "place"),
    [
        ("n01440764", 0),
        ("n01440764_tench", 0),
        ("tench", 0),
        ("n02389026_sorrel", 339),
        ("crane", None),
        ("gizmo", None),
    ],
)
def test_a_thousand_outputs_are_imagenets_by_number_and_name(label: str, place: int | None) -> None:
    with captum_vit.adapt(of_torchvision(1000)) as vit:
        assert place_of(label, outputs_of(vit)) == place


def test_half_a_name_is_none() -> None:
    assert place_of("sea_lion", {"lion": 1, "sea": 2}) is None
    assert place_of("n02129165_lion", {"lion": 1}) == 1


def test_a_model_without_a_head_has_no_outputs_though_it_was_configured_for_one() -> None:
    model = transformers.ViTModel(transformers.ViTConfig(**SHAPE, id2label={0: "cat", 1: "dog"})).eval()
    with captum_vit.adapt(model) as vit:
        assert outputs_of(vit) == {}


@torch.no_grad()
def test_the_head_of_transformers_classifies() -> None:
    model = of_transformers("cat", "dog", "gnu")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model(images).logits
    with captum_vit.adapt(model) as vit:
        found = find_classifier(vit, {"a.png": "gnu", "b.png": "cat"}, progress=False)
        assert found.words == "its own head"
        assert found.targets == {"gnu": 2, "cat": 0}
        assert torch.equal(found.scores(images), expected)


@pytest.mark.parametrize(
    ("make", "head"),
    [
        (lambda: of_transformers("cat", "dog"), "classifier"),
        (lambda: of_torchvision(5), "heads.head"),
        (lambda: torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5).eval(), "fc"),
        (TINY_MODELS["swin"].build, "head.fc"),
        (TINY_MODELS["deit"].build, "head"),
    ],
)
@torch.no_grad()
def test_features_are_what_the_head_reads(make: Callable[[], torch.nn.Module], head: str) -> None:
    model = make()
    read: list[Tensor] = []
    model.get_submodule(head).register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    with captum_vit.adapt(model) as vit:
        images = torch.rand(2, 3, *vit.preprocessing.size, generator=torch.Generator().manual_seed(0))
        vit(images)
        expected = read[-1]
        torch.testing.assert_close(features(vit, images), expected)
