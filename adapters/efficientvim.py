"""EfficientViM: hidden states of a state space model mix the image, a feed-forward block follows."""

from __future__ import annotations

from collections.abc import Iterator

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class EfficientViM(AnySize):
    """EfficientViM: channels first; a stage ends with its downsampling, which has no site."""

    family = "efficientvim"
    models = ("timm.models.efficientvim.EfficientViM",)

    def sites(self, model) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid().through(model.patch_embed)
        for i, stage in enumerate(model.stages):
            for j, block in enumerate(stage.blocks):
                yield feed_forward(f"stages.{i}.blocks.{j}", reads=block.ffn.fc2.conv, grid=grid, layout="b c h w")
            grid = grid.through(stage.downsample)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [EfficientViM()]
