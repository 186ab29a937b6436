"""EfficientViT of MIT and EfficientViT of Microsoft Research, which share a name and little else."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.efficientvit_mit import EfficientVit, EfficientVitBlock, EfficientVitLarge
from timm.models.efficientvit_msra import ConvMlp, EfficientVitMsra, PatchMerging

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class EfficientViT(AnySize):
    """EfficientViT (MIT), SAM's L variants too: inverted bottlenecks, channels first, linear attention before some."""

    family = "efficientvit_mit"
    models = (EfficientVit, EfficientVitLarge)
    stem = "stem"

    def sites(self, model: EfficientVit | EfficientVitLarge) -> Iterator[Site]:
        """One site a block: its inverted bottleneck, the first of which halves the grid in each stage."""
        grid = PatchGrid().through(model.stem)
        for i, stage in enumerate(model.stages):
            for j, block in enumerate(stage.blocks):
                bottleneck = block.local_module.main if isinstance(block, EfficientVitBlock) else block.main
                grid = grid.through(bottleneck)
                reads = bottleneck.point_conv.conv
                yield feed_forward(f"stages.{i}.blocks.{j}", reads=reads, grid=grid, layout="b c h w")


class EfficientViTMSRA(AnySize):
    """EfficientViT (Microsoft): channels first; a feed-forward block on both sides of attention and of downsampling."""

    family = "efficientvit_msra"
    models = (EfficientVitMsra,)

    def sites(self, model: EfficientVitMsra) -> Iterator[Site]:
        """One site for each feed-forward block, in their order."""
        grid = PatchGrid().through(model.patch_embed)
        for name, module in model.stages.named_modules(prefix="stages"):
            if isinstance(module, PatchMerging):
                grid = grid.through(module.conv2)
            elif isinstance(module, ConvMlp):
                reads = module.pw2.conv
                yield feed_forward(name.removesuffix(".m"), reads=reads, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [EfficientViT(), EfficientViTMSRA()]
