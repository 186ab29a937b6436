"""LeViT: a convolutional stem, attention that halves the grid, MLPs of linear layers or of 1×1 convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.levit import Levit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit.probes.layout import TOKENS


class LeViT(Adapter):
    """LeViT: tokens, or channels first in the ``conv`` variants; the downsampling between stages has an MLP, too."""

    family = "levit"
    models = (Levit,)
    stem = "stem"

    def sites(self, model: Levit) -> Iterator[Site]:
        """One site a block, and one a downsampling."""
        grid = PatchGrid().through(model.stem)
        for i, stage in enumerate(model.stages):
            blocks = [(f"stages.{i}.blocks.{j}", block) for j, block in enumerate(stage.blocks)]
            if i > 0:
                grid = grid.then(1, 2)
                blocks.insert(0, (f"stages.{i}.downsample", stage.downsample))
            for name, block in blocks:
                layout = "b c h w" if model.use_conv else TOKENS
                yield feed_forward(name, reads=block.mlp.ln2.linear, grid=grid, layout=layout)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [LeViT()]
