"""VGG and AlexNet: plain chains of convolutions; a site is what an activation function gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.convnets import MAP, ConvNet


class VGG(ConvNet):
    """VGG of timm and torchvision, and AlexNet: ``features.29`` is what the activation function there gives."""

    family = "vgg"
    models = ("timm.models.vgg.VGG", "torchvision.models.vgg.VGG", "torchvision.models.alexnet.AlexNet")
    stem = "features.0"

    def sites(self, model: Any) -> Iterator[Site]:
        """One site a convolution."""
        grid, units = PatchGrid(), 0
        for i, layer in enumerate(model.features):
            grid = grid.through(layer)
            if isinstance(layer, nn.Conv2d):
                units = layer.out_channels
            if isinstance(layer, nn.ReLU):
                yield feed_forward(f"features.{i}", writes=layer, units=units, grid=grid, layout=MAP)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [VGG()]
