"""EfficientNets and MobileNets of timm and torchvision: inverted bottlenecks, which widen and narrow again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, hookimpl
from captum_vit_adapters.convnets import ConvNet, at_last, widening

# What timm's blocks call the convolution that narrows; that of a block without it is not called so.
NARROWING = ("conv_pwl", "pw_proj", "conv_pw")
# torchvision's blocks, by the names of their classes.
INVERTED = ("MBConv", "FusedMBConv", "InvertedResidual")


class EfficientNet(ConvNet):
    """timm's EfficientNet, MNASNet, MobileNet V1 to V4: ``blocks.5.1`` is what it narrows, ``blocks.5.1.output``."""

    family = "efficientnet"
    models = ("timm.models.efficientnet.EfficientNet", "timm.models.mobilenetv3.MobileNetV3")
    stem = "conv_stem"

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block that narrows; none in a plain convolution or in MobileNet V4's attention."""
        grid = PatchGrid().through(model.conv_stem)
        for i, stage in enumerate(model.blocks):
            for j, block in enumerate(stage):
                last = next((getattr(block, layer) for layer in NARROWING if hasattr(block, layer)), None)
                if last is None:
                    grid = grid.through(getattr(block, "conv", None), getattr(block, "aa", None))
                    continue
                grid = at_last(grid, block, last)
                yield from widening(f"blocks.{i}.{j}", block, last, grid)


class ReXNet(ConvNet):
    """ReXNet: ``features.5`` is what a block narrows, ``features.5.output`` what it gives, wider block by block."""

    family = "rexnet"
    models = ("timm.models.rexnet.RexNet",)
    stem = "stem"

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block; the last of ``features`` is a plain convolution."""
        grid = PatchGrid().through(model.stem)
        for i, block in enumerate(model.features[:-1]):
            grid = at_last(grid, block, block.conv_pwl)
            yield from widening(f"features.{i}", block, block.conv_pwl, grid)


class TorchvisionEfficientNet(ConvNet):
    """torchvision's EfficientNet and V2, MobileNet V2 and V3: ``features.5.1`` is what it narrows, and ``.output``."""

    family = "torchvision_efficientnet"
    models = (
        "torchvision.models.efficientnet.EfficientNet",
        "torchvision.models.mobilenetv2.MobileNetV2",
        "torchvision.models.mobilenetv3.MobileNetV3",
    )
    stem = "features.0"

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block that narrows."""
        grid = PatchGrid().through(model.features[0])
        for name, block in model.features.named_modules(prefix="features"):
            if type(block).__name__ in INVERTED:
                *before, last = (layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
                grid = at_last(grid, block, last) if before else grid.through(last)
                yield from widening(name, block, last, grid) if before else ()


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [EfficientNet(), ReXNet(), TorchvisionEfficientNet()]
