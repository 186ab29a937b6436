"""Twins-PCPVT and Twins-SVT: four stages, each behind a patch embedding of its own; no prefix token."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.twins import Twins as TimmTwins

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class Twins(Adapter):
    """Blocks of local and global attention alternate; their feed-forward parts are alike."""

    family = "twins"
    models = (TimmTwins,)
    stem = "patch_embeds.0"

    def sites(self, model: TimmTwins) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid()
        for stage, (patch_embed, blocks) in enumerate(zip(model.patch_embeds, model.blocks, strict=True)):
            grid = grid.then(patch_embed.patch_size, patch_embed.patch_size)
            for i, block in enumerate(blocks):
                yield feed_forward(f"blocks.{stage}.{i}", reads=block.mlp.fc2, grid=grid)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [Twins()]
