"""GC ViT: window attention whose queries are, in every second block, those of the whole image."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.gcvit import GlobalContextVit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.stages import blocks_of


class GCViT(Adapter):
    """GC ViT: channels last; windows are undone before the feed-forward block."""

    family = "gcvit"
    models = (GlobalContextVit,)
    stem = "stem"

    def sites(self, model: GlobalContextVit) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            yield feed_forward(name, reads=block.mlp.fc2, grid=grid, layout="b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [GCViT()]
