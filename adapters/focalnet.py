"""FocalNet: focal modulation in the place of attention."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models import focalnet

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of


class FocalNet(AnySize):
    """FocalNet: channels first, images of any size; its stages are called ``layers``."""

    family = "focalnet"
    models = (focalnet.FocalNet,)
    stem = "stem"

    def sites(self, model: focalnet.FocalNet) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.layers, PatchGrid().through(model.stem), "layers"):
            yield feed_forward(name, reads=block.mlp.fc2, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [FocalNet()]
