"""InceptionNeXt: large kernels split into branches, between feed-forward blocks as ConvNeXt's."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.inception_next import MetaNeXt

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of


class InceptionNeXt(AnySize):
    """InceptionNeXt: channels first, images of any size."""

    family = "inception_next"
    models = (MetaNeXt,)
    stem = "stem"

    def sites(self, model: MetaNeXt) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            yield feed_forward(name, reads=block.mlp.fc2, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [InceptionNeXt()]
