"""Swin and its kin in transformers: stages whose cells are merged behind their last block."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.from_transformers import FromTransformers, of, second_linear


class TransformersSwin(FromTransformers):
    """Swin, Swin V2, Donut's and MaskFormer's Swin: no prefix tokens; image and cells are padded to whole ones."""

    family = "transformers_swin"
    models = of(
        "donut.modeling_donut_swin.DonutSwinModel",
        "maskformer.modeling_maskformer_swin.MaskFormerSwinModel",
        "swin.modeling_swin.SwinBackbone",
        "swin.modeling_swin.SwinModel",
        "swinv2.modeling_swinv2.Swinv2Backbone",
        "swinv2.modeling_swinv2.Swinv2Model",
    )
    stem = "embeddings"

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid.patches(model.embeddings.patch_embeddings.projection.kernel_size, ceil=True)
        for i, stage in enumerate(model.encoder.layers):
            for j, block in enumerate(stage.blocks):
                name = f"encoder.layers.{i}.blocks.{j}"
                yield feed_forward(name, reads=second_linear(name, block), grid=grid)
            if stage.downsample is not None:
                grid = grid.then(2, 2, ceil=True)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [TransformersSwin()]
