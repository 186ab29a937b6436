"""MViT v2: a block's attention pools its queries, and with them the grid, where a stage begins."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.mvitv2 import MultiScaleVit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class MViTv2(Adapter):
    """MViT v2: the grid shrinks inside attention; a class token in the ``_cls`` variants."""

    family = "mvitv2"
    models = (MultiScaleVit,)

    def sites(self, model: MultiScaleVit) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid().through(model.patch_embed)
        for i, stage in enumerate(model.stages):
            for j, block in enumerate(stage.blocks):
                last = i == len(model.stages) - 1 and j == len(stage.blocks) - 1
                grid = grid.through(block.shortcut_pool_attn)
                yield feed_forward(
                    f"stages.{i}.blocks.{j}",
                    reads=block.mlp.fc2,
                    grid=grid,
                    prefix_tokens=model.num_prefix_tokens,
                    reaches_output=not (last and model.global_pool == "token"),
                )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [MViTv2()]
