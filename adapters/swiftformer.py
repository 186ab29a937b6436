"""SwiftFormer: convolutional encoders, and additive attention in the last block of a stage."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.swiftformer import SwiftFormer as TimmSwiftFormer

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of


class SwiftFormer(AnySize):
    """SwiftFormer: channels first; convolutional blocks, and one with additive attention at the end of each stage."""

    family = "swiftformer"
    models = (TimmSwiftFormer,)
    stem = "stem"

    def sites(self, model: TimmSwiftFormer) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            reads = block.linear.fc2 if hasattr(block, "linear") else block.pwconv2
            yield feed_forward(name, reads=reads, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [SwiftFormer()]
