"""MetaFormer: pooling, convolutions or attention between feed-forward blocks that are all alike."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.metaformer import MetaFormer as TimmMetaFormer

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.stages import blocks_of, layout_read_by


class MetaFormer(AnySize):
    """PoolFormer, ConvFormer and CAFormer: channels first, and tokens in the stages with attention."""

    family = "metaformer"
    models = (TimmMetaFormer,)
    stem = "stem"

    def sites(self, model: TimmMetaFormer) -> Iterator[Site]:
        """One site a block, stage by stage."""
        for name, block, grid in blocks_of(model.stages, PatchGrid().through(model.stem)):
            yield feed_forward(name, reads=block.mlp.fc2, grid=grid, layout=layout_read_by(block.mlp.fc2))


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [MetaFormer()]
