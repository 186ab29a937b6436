"""The image encoder of Segment Anything: windows in most blocks, undone before the feed-forward block."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.vision_transformer_sam import VisionTransformerSAM

from captum_vit import Adapter, Site, feed_forward, hookimpl
from captum_vit.probes.layout import Layout
from captum_vit_adapters.attention import attention_of
from captum_vit_adapters.deit import patch_grid


class SAM(Adapter):
    """Segment Anything's image encoder: patch tokens alone, images of any size."""

    family = "sam"
    models = (VisionTransformerSAM,)

    def sites(self, model: VisionTransformerSAM) -> Iterator[Site]:
        """One site a block."""
        grid = patch_grid(model.patch_embed)
        for i, block in enumerate(model.blocks):
            side = block.window_size
            attention = attention_of(block.attn, layout=Layout.windows((side, side)) if side else None)
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid, attention=attention)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [SAM()]
