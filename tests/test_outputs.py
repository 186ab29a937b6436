"""Which tensor of a model's output the adapted model gives, and how models are told what to expect of images."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from captum.attr import IntegratedGradients, LayerConductance
from families import plain
from torch import Tensor, nn
from torchvision import transforms

import captum_vit
from captum_vit import Preprocessing
from captum_vit.errors import ArgumentError, PreprocessingWarning


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


Named = namedtuple("Named", "logits hidden")
KINDS = {
    "a dataclass": (Output, "logits"),
    "a dictionary": (lambda logits, hidden: {"logits": logits, "hidden": hidden}, "logits"),
    "an ordered dictionary": (lambda logits, hidden: OrderedDict(logits=logits, hidden=hidden), "logits"),
    "a tuple": (lambda logits, hidden: (logits, hidden), 0),
    "a list": (lambda logits, hidden: [logits, hidden], 0),
    "a named tuple": (Named, "logits"),
    "a named tuple, by number": (Named, 0),
}


class Several(nn.Module):
    """Gives its logits among other things."""

    def __init__(self, pack) -> None:
        super().__init__()
        self.vit = plain().build()
        self.pack = pack

    def forward(self, images: Tensor):
        hidden = self.vit.forward_features(images)
        return self.pack(self.vit.forward_head(hidden), hidden)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_tensor_that_was_named_is_the_models_for_every_tool(kind, images):
    pack, output = KINDS[kind]
    model = Several(pack).eval()
    logits = model.vit(images)
    vit = captum_vit.adapt(model, output=output)
    assert torch.equal(vit(images), logits)
    assert vit.takes == output
    conductance = LayerConductance(vit, vit.layer("blocks.1")).attribute(images, target=1, n_steps=4)
    assert conductance.shape == (2, 96, 4, 4)
    assert conductance.any()
    assert IntegratedGradients(vit).attribute(images, target=1, n_steps=4).any()
    # What stops before the output has no use for it.
    assert torch.equal(vit.neuron("blocks.1:3")(images), captum_vit.adapt(plain().build()).neuron("blocks.1:3")(images))


@pytest.mark.parametrize("kind", KINDS)
def test_not_asked_for_the_output_is_the_models_own(kind, images):
    pack, _ = KINDS[kind]
    vit = captum_vit.adapt(Several(pack).eval())
    assert type(vit(images)) is type(pack(1, 2))


@pytest.mark.parametrize(
    ("pack", "output", "told"),
    [
        (Output, "scores", "a Output, has no 'scores'; adapt the model with output= one of 'logits', 'hidden'"),
        (KINDS["a dictionary"][0], "scores", "a dict, has no 'scores'; .* one of 'logits', 'hidden'"),
        (KINDS["a tuple"][0], 7, "a tuple, has no 7; adapt the model with output= a number from 0 to 1"),
        (KINDS["a tuple"][0], "logits", "a tuple, has no 'logits'; .* a number from 0 to 1"),
        (lambda logits, hidden: logits, "logits", "a Tensor, has no 'logits'; it is a tensor already"),
    ],
)
def test_a_part_that_the_output_does_not_have_is_an_error_that_lists_those_it_has(pack, output, told, images):
    with pytest.raises(ArgumentError, match=told):
        captum_vit.adapt(Several(pack).eval(), output=output)(images)


MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
TOLD = {
    "itself": Preprocessing((32, 48), MEAN, STD),
    "a processor's configuration": {
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "size": {"height": 32, "width": 48},
    },
    "one that crops": {
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "size": {"shortest_edge": 256},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 48},
    },
    "one that could crop and does not": {
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "size": {"height": 32, "width": 48},
        "do_center_crop": False,
        "crop_size": {"height": 224, "width": 224},
    },
    "torchvision's steps": transforms.Compose(
        [transforms.Resize(99), transforms.CenterCrop((32, 48)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    ),
    "torchvision's steps without a crop": transforms.Compose(
        [transforms.Resize((32, 48)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    ),
}


@pytest.mark.parametrize("told", TOLD)
def test_preprocessing_is_read_off_what_its_library_calls_so(told):
    with captum_vit.adapt(plain(img_size=(32, 48)).build(), preprocessing=TOLD[told]) as vit:
        assert vit.preprocessing == Preprocessing((32, 48), MEAN, STD)


def test_weights_of_torchvision_bring_theirs():
    from torchvision.models import ViT_B_16_Weights

    found = Preprocessing.read(ViT_B_16_Weights.IMAGENET1K_V1.transforms())
    assert found == Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_processor_that_does_not_normalize_leaves_pixels_as_they_are():
    found = Preprocessing.read({"do_normalize": False, "size": {"shortest_edge": 64}})
    assert found == Preprocessing((64, 64), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("told", [{"size": 32}, {"image_mean": MEAN, "image_std": STD}, "imagenet", 224, nn.Identity()])
def test_what_does_not_tell_preprocessing_is_refused_with_what_would(told):
    with pytest.raises(
        ArgumentError, match=r"does not tell an image's size, mean and standard deviation; give captum_"
    ):
        captum_vit.adapt(plain().build(), preprocessing=told)


class Guessing(captum_vit.Adapter):
    """Knows the size of images and nothing else."""

    family = "guessing"

    def serves(self, model: nn.Module) -> bool:
        return hasattr(model, "patch_embed")

    def preprocessing(self, model):
        return Preprocessing((32, 32), MEAN, STD, assumed=True)

    def sites(self, model):
        for i, block in enumerate(model.blocks):
            grid = captum_vit.PatchGrid.patches(8)
            yield captum_vit.feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid, prefix_tokens=1)


def test_preprocessing_that_nothing_tells_is_assumed_with_a_warning_unless_it_is_given(recwarn):
    with pytest.warns(PreprocessingWarning, match=r"nothing with VisionTransformer tells the mean .* are assumed"):
        captum_vit.adapt(plain().build(), adapter=Guessing()).restore()
    recwarn.clear()
    vit = captum_vit.adapt(plain().build(), adapter=Guessing(), preprocessing=TOLD["itself"])
    assert not recwarn.list
    assert vit.preprocessing == TOLD["itself"]


class ByKeyword(nn.Module):
    """Hands its stem the image by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain().build()

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.inner(x=pixel_values)


def test_images_come_in_by_keyword_too(images):
    model = ByKeyword().eval()
    expected = model(images)
    with captum_vit.adapt(model) as vit:
        assert torch.equal(vit(pixel_values=images), expected)
        with vit.until("blocks.1"):
            assert vit(pixel_values=images).shape == (2, 96, 4, 4)
