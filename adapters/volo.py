"""VOLO: outlook attention on a fine grid, then self-attention on a coarser one; channels last throughout."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models import volo
from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class VOLO(Adapter):
    """VOLO: channels last; the class token joins the patches only in the class attention at the end."""

    family = "volo"
    models = (volo.VOLO,)

    def sites(self, model: volo.VOLO) -> Iterator[Site]:
        """One site a block; ``network`` is a list of stages and of the downsamplings between them."""
        grid = PatchGrid().through(model.patch_embed)
        for i, stage in enumerate(model.network):
            if not isinstance(stage, nn.Sequential):
                grid = grid.through(stage)
                continue
            for j, block in enumerate(stage):
                yield feed_forward(f"network.{i}.{j}", reads=block.mlp.fc2, grid=grid, layout="b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [VOLO()]
