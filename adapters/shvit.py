"""SHViT: single-head attention over a part of the channels."""

from __future__ import annotations

from collections.abc import Iterator

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class SHViT(AnySize):
    """SHViT: channels first; a feed-forward block on both sides of each downsampling."""

    family = "shvit"
    models = ("timm.models.shvit.SHViT",)

    def sites(self, model) -> Iterator[Site]:
        """One site for each feed-forward block, in their order."""
        grid = PatchGrid().through(model.patch_embed)
        for name, module in model.stages.named_modules(prefix="stages"):
            if hasattr(module, "conv1") and hasattr(module, "conv3"):  # patch merging
                grid = grid.through(module.conv2)
            elif hasattr(module, "pw2"):
                block = name.removesuffix(".m").removesuffix(".ffn")
                yield feed_forward(block, reads=module.pw2.c, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [SHViT()]
