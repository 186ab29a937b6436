"""EfficientFormer and EfficientFormer V2: convolutional stages, then attention."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.efficientformer import EfficientFormer as TimmEfficientFormer
from timm.models.efficientformer_v2 import EfficientFormerV2 as TimmEfficientFormerV2

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.stages import blocks_of, layout_read_by


class EfficientFormer(Adapter):
    """EfficientFormer: channels first, and tokens without prefix in the last blocks."""

    family = "efficientformer"
    models = (TimmEfficientFormer,)
    stem = "stem"

    def sites(self, model: TimmEfficientFormer) -> Iterator[Site]:
        """One site a block; among the blocks of the last stage is a layer that flattens the image to tokens."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            if hasattr(block, "mlp"):
                yield feed_forward(name, reads=block.mlp.fc2, grid=grid, layout=layout_read_by(block.mlp.fc2))


class EfficientFormerV2(Adapter):
    """EfficientFormer V2: channels first; a neuron is what the MLP's depthwise convolution and activation give."""

    family = "efficientformer_v2"
    models = (TimmEfficientFormerV2,)
    stem = "stem"

    def sites(self, model: TimmEfficientFormerV2) -> Iterator[Site]:
        """One site a block; attention may run beside the convolution that downsamples."""
        grid = PatchGrid().through(model.stem)
        for i, stage in enumerate(model.stages):
            grid = grid.through(getattr(stage.downsample, "conv", None))
            for j, block in enumerate(stage.blocks):
                yield feed_forward(f"stages.{i}.blocks.{j}", reads=block.mlp.fc2.conv, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [EfficientFormer(), EfficientFormerV2()]
