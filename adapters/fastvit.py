"""FastViT and MobileCLIP's towers: re-parameterized convolutions, attention in the last stages."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.fastvit import FastVit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class FastViT(AnySize):
    """FastViT, MobileCLIP and FastVLM: channels first; convolutional MLPs in every block."""

    family = "fastvit"
    models = (FastVit,)
    stem = "stem"

    def sites(self, model: FastVit) -> Iterator[Site]:
        """One site a block; each convolution of the stem and of the downsamplings has branches, and may be fused."""
        grid = PatchGrid()
        for conv in model.stem:
            grid = grid.then(conv.kernel_size, conv.stride, conv.kernel_size // 2)
        for i, stage in enumerate(model.stages):
            if hasattr(stage.downsample, "proj"):
                conv = stage.downsample.proj[0]
                grid = grid.then(conv.kernel_size, conv.stride, conv.kernel_size // 2)
            for j, block in enumerate(stage.blocks):
                yield feed_forward(f"stages.{i}.blocks.{j}", reads=block.mlp.fc2, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [FastViT()]
