"""Sequencer: recurrent networks along rows and columns in the place of attention."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.sequencer import Sequencer2d

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of


class Sequencer(AnySize):
    """Sequencer: channels last; LSTMs mix rows and columns, MLPs mix channels."""

    family = "sequencer"
    models = (Sequencer2d,)
    stem = "stem"

    def sites(self, model: Sequencer2d) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            yield feed_forward(name, reads=block.mlp_channels.fc2, grid=grid, layout="b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [Sequencer()]
