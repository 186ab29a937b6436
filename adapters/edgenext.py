"""EdgeNeXt: ConvNeXt blocks, and attention between channels at the end of a stage."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.edgenext import EdgeNeXt as TimmEdgeNeXt

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class EdgeNeXt(AnySize):
    """EdgeNeXt: channels last; a stage is downsampled before its first block, or in it."""

    family = "edgenext"
    models = (TimmEdgeNeXt,)
    stem = "stem"

    def sites(self, model: TimmEdgeNeXt) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid().through(model.stem)
        for i, stage in enumerate(model.stages):
            grid = grid.through(stage.downsample)
            for j, block in enumerate(stage.blocks):
                grid = grid.through(getattr(block, "conv_dw", None))
                yield feed_forward(f"stages.{i}.blocks.{j}", reads=block.mlp.fc2, grid=grid, layout="b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [EdgeNeXt()]
