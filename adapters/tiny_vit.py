"""TinyViT: a stage of inverted bottlenecks, then stages of window attention."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.tiny_vit import TinyVit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class TinyViT(AnySize):
    """TinyViT: convolutional blocks in the first stage, channels first; tokens without prefix in the others."""

    family = "tiny_vit"
    models = (TinyVit,)

    def sites(self, model: TinyVit) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid().through(model.patch_embed)
        for i, stage in enumerate(model.stages):
            grid = grid.through(getattr(stage, "downsample", None))
            for j, block in enumerate(stage.blocks):
                name = f"stages.{i}.blocks.{j}"
                if hasattr(block, "mlp"):
                    yield feed_forward(name, reads=block.mlp.fc2, grid=grid)
                else:
                    yield feed_forward(name, reads=block.conv3.conv, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [TinyViT()]
