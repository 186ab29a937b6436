"""CSATv2: convolutional blocks on the discrete cosine transform of 8 × 8 patches."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class CSATv2(Adapter):
    """CSATv2: sees an image's cosine transform; channels last, and tokens in its attention blocks."""

    family = "csatv2"
    models = ("timm.models.csatv2.CSATv2",)
    stem = "stem_dct"

    def sites(self, model) -> Iterator[Site]:
        """One site a block; among the blocks of a stage is the convolution that downsamples it."""
        grid = PatchGrid.patches(model.stem_dct.k)
        for i, stage in enumerate(model.stages):
            for j, block in enumerate(stage):
                name = f"stages.{i}.{j}"
                if hasattr(block, "pwconv2"):
                    yield feed_forward(name, reads=block.pwconv2, grid=grid, layout="b h w c")
                elif hasattr(block, "mlp"):
                    grid = grid.through(block.pool1)
                    yield feed_forward(name, reads=block.mlp.fc2, grid=grid)
                elif isinstance(block, nn.Conv2d):
                    grid = grid.through(block)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [CSATv2()]
