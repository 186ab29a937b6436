"""Pyramids of transformers: every stage begins with a patch embedding of its own, a strided convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.from_transformers import FromTransformers, inside, of, second_linear
from captum_vit_adapters.transformers_vit import BEFORE, tokens


class InStages(FromTransformers):
    """What they share: where a stage's patch embedding and blocks are, with its number in the place of ``{}``."""

    embedding: ClassVar[str]
    blocks: ClassVar[str]

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid, stages = PatchGrid(), 0
        while (embedding := inside(model, self.embedding.format(stages))) is not None:
            grid, path = grid.through(embedding), self.blocks.format(stages)
            stages += 1
            last = inside(model, self.embedding.format(stages)) is None
            listed = list(model.get_submodule(path))
            before = tokens(embedding, BEFORE)
            for j, block in enumerate(listed):
                name = f"{path}.{j}"
                yield feed_forward(
                    name,
                    reads=second_linear(name, block),
                    grid=grid,
                    prefix_tokens=before,
                    reaches_output=not (before and last and block is listed[-1]),
                )


class TransformersSegformer(InStages):
    """Segformer: no prefix tokens, a 3 × 3 convolution inside the feed-forward block; images of any size."""

    family = "transformers_segformer"
    models = of("segformer.modeling_segformer.SegformerModel")
    stem = "stages.0.patch_embeddings"
    embedding, blocks = "stages.{}.patch_embeddings", "stages.{}.blocks"
    any_size = True


class TransformersPVT(InStages):
    """PVT, whose last stage has a class token, GLPN, and Segformer in releases before 5."""

    family = "transformers_pvt"
    models = of(
        "glpn.modeling_glpn.GLPNModel",
        "pvt.modeling_pvt.PvtModel",
        "segformer.modeling_segformer.SegformerModel",
    )
    stem = "encoder.patch_embeddings.0"
    embedding, blocks = "encoder.patch_embeddings.{}", "encoder.block.{}"


class TransformersPVTv2(InStages):
    """PVT v2: no prefix tokens, a 3 × 3 convolution inside the feed-forward block; images of any size."""

    family = "transformers_pvt_v2"
    models = of("pvt_v2.modeling_pvt_v2.PvtV2Backbone", "pvt_v2.modeling_pvt_v2.PvtV2Model")
    stem = "encoder.layers.0.patch_embedding"
    embedding, blocks = "encoder.layers.{}.patch_embedding", "encoder.layers.{}.blocks"
    any_size = True


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [TransformersSegformer(), TransformersPVT(), TransformersPVTv2()]
