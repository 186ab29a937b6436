"""StarNet: the product of two linear layers in the place of an activation."""

from __future__ import annotations

from collections.abc import Iterator

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class StarNet(AnySize):
    """StarNet: channels first, images of any size; a neuron is the product of an activated and a linear one."""

    family = "starnet"
    models = ("timm.models.starnet.StarNet",)
    stem = "stem"

    def sites(self, model) -> Iterator[Site]:
        """One site a block; each stage begins with a strided convolution."""
        grid = PatchGrid().through(model.stem)
        for i, (downsample, *blocks) in enumerate(model.stages):
            grid = grid.through(downsample)
            for j, block in enumerate(blocks, start=1):
                yield feed_forward(f"stages.{i}.{j}", reads=block.g.conv, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [StarNet()]
