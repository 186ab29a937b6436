"""Hiera in transformers: blocks that pool their queries where a stage begins, tokens in the order of mask units."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.from_transformers import FromTransformers, of, second_linear
from captum_vit_adapters.hiera import mask_units


class TransformersHiera(FromTransformers):
    """Hiera: tokens that are pooled together are far apart in memory."""

    family = "transformers_hiera"
    models = of("hiera.modeling_hiera.HieraBackbone", "hiera.modeling_hiera.HieraModel")
    stem = "embeddings"

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block; each pooling takes the outermost of the strides by which tokens are unrolled."""
        grid, left = PatchGrid().through(model.embeddings), len(model.encoder.schedule[0][0])
        for i, stage in enumerate(model.encoder.stages):
            strides, _ = model.encoder.schedule[i]
            if len(strides) < left:
                grid, left = grid.then(tuple(model.config.query_stride), tuple(model.config.query_stride)), len(strides)
            layout, axes = mask_units(strides)
            for j, block in enumerate(stage.layers):
                name = f"encoder.stages.{i}.layers.{j}"
                yield feed_forward(name, reads=second_linear(name, block), grid=grid, layout=layout, axes=axes)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [TransformersHiera()]
