"""Next-ViT: convolutional and transformer blocks in turn, each with a patch embedding of its own."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.nextvit import NextViT as TimmNextViT

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class NextViT(AnySize):
    """Next-ViT: channels first; the first block of a stage pools the grid, rounding up."""

    family = "nextvit"
    models = (TimmNextViT,)
    stem = "stem"

    def sites(self, model: TimmNextViT) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid().through(model.stem)
        for i, stage in enumerate(model.stages):
            for j, block in enumerate(stage.blocks):
                grid = grid.through(block.patch_embed)
                yield feed_forward(f"stages.{i}.blocks.{j}", reads=block.mlp.fc2, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [NextViT()]
