"""PiT: overlapping patches, and stages that are pooled by strided convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.pit import PoolingVisionTransformer

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.attention import attention_of


class PiT(Adapter):
    """Transformers in a row, each but the first behind a pooling that halves the grid."""

    family = "pit"
    models = (PoolingVisionTransformer,)

    def sites(self, model: PoolingVisionTransformer) -> Iterator[Site]:
        """One site a block, stage by stage."""
        embed = model.patch_embed.conv
        grid = PatchGrid.patches(embed.kernel_size, embed.stride, embed.padding)
        for stage, transformer in enumerate(model.transformers):
            if transformer.pool is not None:
                pool = transformer.pool.conv
                grid = grid.then(pool.kernel_size, pool.stride, pool.padding)
            for i, block in enumerate(transformer.blocks):
                last = stage == len(model.transformers) - 1 and i == len(transformer.blocks) - 1
                yield feed_forward(
                    f"transformers.{stage}.blocks.{i}",
                    reads=block.mlp.fc2,
                    grid=grid,
                    prefix_tokens=model.num_tokens,
                    attention=attention_of(block.attn),
                    reaches_output=not (last and model.global_pool == "token"),
                )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [PiT()]
