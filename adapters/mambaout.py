"""MambaOut: Mamba's gated blocks without their state space model."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.mambaout import MambaOut as TimmMambaOut

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of


class MambaOut(AnySize):
    """MambaOut: channels last; a neuron is a gated one, some after a depthwise convolution."""

    family = "mambaout"
    models = (TimmMambaOut,)
    stem = "stem"

    def sites(self, model: TimmMambaOut) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            yield feed_forward(name, reads=block.fc2, grid=grid, layout="b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [MambaOut()]
