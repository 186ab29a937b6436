"""Adapted models and neurons outside eager PyTorch: traced, exported, written as ONNX, watched or not."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from families import SIX_FAMILIES
from torch import nn

import captum_vit

# Watched and not, each of both; of the other families what a watched model and a neuron have that theirs does not.
SUBJECTS = [("deit", what, watched) for what in ("model", "neuron") for watched in (False, True)]
SUBJECTS += [
    (family, what, what == "model") for family in SIX_FAMILIES if family != "deit" for what in ("model", "neuron")
]
WAYS = {
    "jit.trace": lambda module, images: torch.jit.trace(module, images, check_trace=False),
    "export": lambda module, images: torch.export.export(module, (images,)).module(),
}


def subject(family, what, watched):
    """An adapted model or a neuron of it, and images."""
    tiny = SIX_FAMILIES[family]
    vit = captum_vit.adapt(tiny.build())
    site = vit.sites[1]
    if watched:
        vit.ffn[site.key].register_forward_hook(lambda module, inputs, output: output * 1.5)
    images = torch.rand(1, 3, *tiny.image_size, generator=torch.Generator().manual_seed(0))
    return (vit if what == "model" else vit.neuron(f"{site.name}:3")), images


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "what", "watched"), SUBJECTS)
@pytest.mark.parametrize("way", WAYS)
def test_it_gives_the_same_when_traced_or_exported(way, family, what, watched):
    module, images = subject(family, what, watched)
    expected = module(images)
    found = WAYS[way](module, images)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module(images), expected)  # and the module itself is as it was


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["model", "neuron"])
@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_it_can_be_written_as_onnx(family, what):
    module, images = subject(family, what, watched=True)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (images,), file, dynamo=False)
    assert file.tell() > 1000


def test_a_compiled_neuron_follows_the_size_of_its_images():
    vit = captum_vit.adapt(SIX_FAMILIES["twins"].build())
    neuron = vit.neuron(f"{vit.sites[1].name}:3")
    compiled = torch.compile(neuron, backend="eager")
    for size in ((64, 64), (64, 96)):
        images = torch.rand(1, 3, *size)
        torch.testing.assert_close(compiled(images), neuron(images))
    assert isinstance(neuron, nn.Module)
