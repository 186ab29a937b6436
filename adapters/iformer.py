"""iFormer: ConvNeXt-like blocks, then single-head modulated attention between feed-forward blocks."""

from __future__ import annotations

from collections.abc import Iterator

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of


class IFormer(AnySize):
    """iFormer: channels first; convolutional blocks and feed-forward blocks in one list with attention."""

    family = "iformer"
    models = ("timm.models.iformer.IFormer",)
    stem = "stem"

    def sites(self, model) -> Iterator[Site]:
        """One site for each block that expands and contracts."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            if type(block).__name__ in ("ConvBlock", "FFN"):
                yield feed_forward(name, reads=block.mixer.module[-1].c, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [IFormer()]
