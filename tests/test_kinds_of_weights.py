"""Weights that are no plain tensors, and models of other channels: maps, rankings and renders work, or say why not."""

from __future__ import annotations

import warnings

import pytest
import torch
from families import SIX_FAMILIES
from torch import nn

import captum_vit
from captum_vit.errors import CaptumViTError, ImageError
from captum_vit.storage.fingerprint import weights_sha256


class Doubled(nn.Module):
    """A layer whose weight is computed when it is read, as adapters for fine-tuning do."""

    def __init__(self, layer):
        super().__init__()
        self.register_buffer("a_half", layer.weight.detach() / 2)
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.in_features, self.out_features = layer.in_features, layer.out_features

    @property
    def weight(self):
        return self.a_half + self.a_half

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


class Int8(nn.Module):
    """Weights of whole numbers."""

    def __init__(self, layer):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        scale = layer.weight.detach().abs().max() / 127
        self.register_buffer("scale", scale)
        self.weight = nn.Parameter((layer.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


def replaced(kind):
    def change(model):
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if type(child) is nn.Linear and name in ("fc1", "fc2", "qkv", "proj"):
                    setattr(module, name, kind(child))
        return model

    return change


def dynamically_quantized(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


KINDS = {
    "computed": replaced(Doubled),
    "int8": replaced(Int8),
    "quantized": dynamically_quantized,
    "half": lambda model: model.to(torch.bfloat16),
    "frozen": lambda model: model.requires_grad_(False),
    "mixed": lambda model: [model.blocks[1].to(torch.float64), model][1],
}


@pytest.mark.parametrize("kind", KINDS)
def test_where_maps_work_so_do_rankings(kind):
    vit = captum_vit.adapt(KINDS[kind](SIX_FAMILIES["deit"].build()).eval())
    images = torch.rand(4, 3, 32, 32)
    try:
        expected = vit.neuron("blocks.0:7")(images.to(vit.dtype)).detach()
    except RuntimeError:
        with pytest.raises(RuntimeError):
            captum_vit.top_images(vit, list(images), 2, progress=False)
        return
    top = captum_vit.top_images(vit, list(images), 2, sites=["blocks.0"], progress=False)
    assert [image.index for image in top.best("blocks.0:7")] == expected.float().argsort(descending=True)[:2].tolist()


@pytest.mark.parametrize("kind", ["computed", "int8", "half", "frozen"])
def test_where_maps_have_gradients_renders_work(kind):
    vit = captum_vit.adapt(KINDS[kind](SIX_FAMILIES["deit"].build()).eval())
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe="fourier", steps=4, progress=False)
    assert render.image.std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_checksum_of_weights_is_that_of_their_values(kind):
    one, same, other = (KINDS[kind](SIX_FAMILIES["deit"].build()).eval() for _ in range(3))
    assert weights_sha256(one) == weights_sha256(same)
    with torch.no_grad():
        other.patch_embed.proj.bias.add_(0.5)
    assert weights_sha256(one) != weights_sha256(other)


def test_a_quantized_weight_counts():
    one, other = (dynamically_quantized(SIX_FAMILIES["deit"].build()) for _ in range(2))
    weight, bias = other.blocks[0].mlp.fc1.weight(), other.blocks[0].mlp.fc1.bias()
    rolled = weight.dequantize().roll(1, 0)
    changed = torch.quantize_per_tensor(rolled, weight.q_scale(), weight.q_zero_point(), torch.qint8)
    other.blocks[0].mlp.fc1.set_weight_bias(changed, bias)
    assert weights_sha256(one) != weights_sha256(other)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_a_model_of_other_channels_has_maps_and_refuses_photos_in_one_line(channels, tmp_path):
    from captum_vit.models import default_photos

    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build(in_chans=channels))
    images = torch.rand(2, channels, 32, 32)
    assert vit.patch_map(images, "blocks.1:7").shape == (2, 4, 4)
    top = captum_vit.top_images(vit, list(images), 1, progress=False)
    assert top.images == 2
    for work in (
        lambda: captum_vit.render(vit, "blocks.1:7", steps=2, progress=False),
        lambda: captum_vit.top_images(vit, default_photos()[:1], 1, progress=False),
        lambda: captum_vit.card.neuron_card(vit, "blocks.1:7", default_photos()[:1], steps=2, progress=False),
    ):
        with pytest.raises(CaptumViTError, match=f"{channels} channel") as refusal:
            work()
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8), "uint8, and should be floating point"),
        (torch.rand(1, 1, 8, 8), "not images"),
        (torch.rand(1, 8, 8, 3), "channels first"),
        (torch.rand(8, 8), "not images"),
    ],
)
def test_normalization_refuses_what_would_mean_nothing(pixels, message):
    vit = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    with pytest.raises(ImageError, match=message):
        vit.preprocessing.normalize(pixels)
