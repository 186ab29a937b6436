"""Twins-PCPVT and Twins-SVT: four stages, each behind a patch embedding of its own; no prefix token."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.twins import LocallyGroupedAttn
from timm.models.twins import Twins as TimmTwins
from torch import nn

from captum_vit import Adapter, Attention, PatchGrid, Site, feed_forward, hookimpl
from captum_vit.probes.layout import Layout
from captum_vit_adapters.attention import attention_of


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
                attention = channels(block.attn, grid)
                yield feed_forward(f"blocks.{stage}.{i}", reads=block.mlp.fc2, grid=grid, attention=attention)


def channels(attn: nn.Module, grid: PatchGrid) -> Attention | str | None:
    """Queries, keys and values: of windows side by side, or of all cells, with keys and values of fewer."""
    if isinstance(attn, LocallyGroupedAttn):
        side = (("h", attn.ws), ("w", attn.ws))
        return attention_of(attn, layout=Layout("b y x h w c -> b c (y h) (x w)", side, filled=True))
    return attention_of(attn, coarser=grid.through(getattr(attn, "sr", None)))


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [Twins()]
