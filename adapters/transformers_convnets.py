"""ResNet and ConvNeXt in transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from captum_vit import Adapter, PatchGrid, Site, hookimpl
from captum_vit_adapters.convnets import at_last, residual, widening
from captum_vit_adapters.from_transformers import FromTransformers, of


class TransformersResNet(FromTransformers):
    """ResNet: ``encoder.stages.3.layers.2.layer.2.convolution`` reads, ``encoder.stages.3.layers.2`` gives."""

    family = "transformers_resnet"
    models = of("resnet.modeling_resnet.ResNetModel", "resnet.modeling_resnet.ResNetBackbone")
    stem = "embedder"
    any_size = True

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block, stage by stage."""
        grid = PatchGrid().through(model.embedder)
        for i, stage in enumerate(model.encoder.stages):
            for j, block in enumerate(stage.layers):
                last = f"layer.{len(block.layer) - 1}.convolution"
                grid = at_last(grid, block, block.get_submodule(last))
                yield from residual(f"encoder.stages.{i}.layers.{j}", block, last, grid)


class TransformersConvNeXt(FromTransformers):
    """ConvNeXt and V2: ``encoder.stages.3.layers.2`` is the feed-forward part, and ``.output`` what the block gives."""

    family = "transformers_convnext"
    models = of(
        "convnext.modeling_convnext.ConvNextModel",
        "convnext.modeling_convnext.ConvNextBackbone",
        "convnextv2.modeling_convnextv2.ConvNextV2Model",
        "convnextv2.modeling_convnextv2.ConvNextV2Backbone",
    )
    stem = "embeddings"
    any_size = True

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block, stage by stage."""
        grid = PatchGrid().through(model.embeddings)
        for i, stage in enumerate(model.encoder.stages):
            grid = grid.through(stage.downsampling_layer)
            for j, block in enumerate(stage.layers):
                yield from widening(f"encoder.stages.{i}.layers.{j}", block, block.pwconv2, grid, "b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [TransformersResNet(), TransformersConvNeXt()]
