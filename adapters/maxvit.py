"""MaxViT, CoAtNet and their hybrids: convolutional blocks and transformers in one model."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.maxxvit import MaxxVit
from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.stages import as_image


class MaxViT(Adapter):
    """MaxViT and CoAtNet: MBConv and ConvNeXt blocks, window and grid attention; several sites in a MaxViT block."""

    family = "maxvit"
    models = (MaxxVit,)
    stem = "stem"

    def sites(self, model: MaxxVit) -> Iterator[Site]:
        """One site for each convolutional block and each attention block, in their order."""
        grid = PatchGrid().through(model.stem)
        for i, stage in enumerate(model.stages):
            for j, block in enumerate(stage.blocks):
                for name, part in block.named_modules(prefix=f"stages.{i}.blocks.{j}"):
                    reads = second_layer(part)
                    if reads is not None:
                        grid = grid.through(getattr(part, "shortcut", None))
                        yield feed_forward(name, reads=reads, grid=grid, layout=as_image(reads))


def second_layer(part: nn.Module) -> nn.Module | None:
    """The layer of a block's part that reads its hidden activation; None for what is no feed-forward block."""
    return getattr(part, "conv3_1x1", None) or getattr(getattr(part, "mlp", None), "fc2", None)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [MaxViT()]
