"""MaxViT, CoAtNet and their hybrids: convolutional blocks and transformers in one model."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.maxxvit import (
    ConvNeXtBlock,
    MaxxVit,
    MbConvBlock,
    ParallelPartitionAttention,
    PartitionAttention2d,
    PartitionAttentionCl,
    TransformerBlock2d,
)

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.stages import layout_read_by

CONVOLUTIONAL = (MbConvBlock, ConvNeXtBlock)
ATTENTION = (TransformerBlock2d, PartitionAttention2d, PartitionAttentionCl, ParallelPartitionAttention)


class MaxViT(Adapter):
    """MaxViT and CoAtNet: MBConv and ConvNeXt blocks, window and grid attention; several sites in a MaxViT block."""

    family = "maxvit"
    models = (MaxxVit,)
    stem = "stem"

    def sites(self, model: MaxxVit) -> Iterator[Site]:
        """One site for each convolutional block and each attention block, in their order."""
        grid = PatchGrid().through(model.stem)
        for name, block in model.stages.named_modules(prefix="stages"):
            if isinstance(block, CONVOLUTIONAL + ATTENTION):
                reads = block.conv3_1x1 if isinstance(block, MbConvBlock) else block.mlp.fc2
                grid = grid.through(getattr(block, "shortcut", None))
                yield feed_forward(name, reads=reads, grid=grid, layout=layout_read_by(reads, "b h w c"))


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [MaxViT()]
