"""FasterNet: convolutions over a part of the channels before each feed-forward block."""

from __future__ import annotations

from collections.abc import Iterator

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of


class FasterNet(AnySize):
    """FasterNet: channels first, images of any size."""

    family = "fasternet"
    models = ("timm.models.fasternet.FasterNet",)

    def sites(self, model) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.patch_embed)):
            yield feed_forward(name, reads=block.mlp[-1], grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [FasterNet()]
