"""ConvNeXt of timm, torchvision and transformers: a depthwise convolution, then a transformer's feed-forward part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from captum_vit import Adapter, PatchGrid, Site, hookimpl
from captum_vit_adapters.convnets import ConvNet, widening
from captum_vit_adapters.stages import blocks_of, layout_read_by


class ConvNeXt(ConvNet):
    """ConvNeXt and V2: ``stages.3.blocks.2`` is its feed-forward part, ``stages.3.blocks.2.output`` what it gives."""

    family = "convnext"
    models = ("timm.models.convnext.ConvNeXt",)
    stem = "stem"

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            last = block.mlp.fc2
            yield from widening(name, block, last, grid, layout_read_by(last, linear="b h w c"))


class TorchvisionConvNeXt(ConvNet):
    """torchvision's ConvNeXt: ``features.7.2`` is its feed-forward part, ``features.7.2.output`` what it gives."""

    family = "torchvision_convnext"
    models = ("torchvision.models.convnext.ConvNeXt",)
    stem = "features.0"

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block; ``features`` are downsamplings and stages in turn."""
        grid = PatchGrid()
        for i in range(0, len(model.features), 2):
            grid = grid.through(model.features[i])
            for j, block in enumerate(model.features[i + 1]):
                yield from widening(f"features.{i + 1}.{j}", block, block.block[5], grid, "b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [ConvNeXt(), TorchvisionConvNeXt()]
