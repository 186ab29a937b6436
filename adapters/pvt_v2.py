"""PVT v2: overlapping patch embeddings before each stage, a depthwise convolution inside each MLP."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.pvt_v2 import PyramidVisionTransformerV2

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.attention import attention_of
from captum_vit_adapters.stages import blocks_of


class PVTv2(AnySize):
    """PVT v2: tokens without prefix; a neuron is what the MLP's depthwise convolution and activation give."""

    family = "pvt_v2"
    models = (PyramidVisionTransformerV2,)

    def sites(self, model: PyramidVisionTransformerV2) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.patch_embed)):
            pool = block.attn.pool
            coarser = grid.through(block.attn.sr) if pool is None else grid.resized(pool.output_size)
            attention = attention_of(block.attn, coarser=coarser)
            yield feed_forward(name, reads=block.mlp.fc2, grid=grid, attention=attention)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [PVTv2()]
