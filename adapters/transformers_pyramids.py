"""Pyramids of transformers: every stage begins with a patch embedding of its own, a strided convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.from_transformers import FromTransformers, inside, of, second_linear
from captum_vit_adapters.transformers_vit import BEFORE, tokens


class InStages(FromTransformers):
    """What they share: where things are in a stage, with its number in the place of ``{}``.

    Attributes
    ----------
    embedding, blocks
        Its patch embedding, and the list of its blocks.
    parts
        What is in each of them, where a feed-forward block is in a part of it.
    token
        What may have a class token, which joins the patches.
    """

    embedding: ClassVar[str]
    blocks: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ("",)
    token: ClassVar[str | None] = None

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid, stage = PatchGrid(), 0
        while (embedding := inside(model, self.embedding.format(stage))) is not None:
            grid, path = grid.through(embedding), self.blocks.format(stage)
            before = tokens(model.get_submodule((self.token or self.embedding).format(stage)), BEFORE)
            stage += 1
            names = [f"{path}.{i}{part}" for i in range(len(model.get_submodule(path))) for part in self.parts]
            last = names[-1] if before and inside(model, self.embedding.format(stage)) is None else None
            for name in names:
                yield feed_forward(
                    name,
                    reads=second_linear(name, model.get_submodule(name)),
                    grid=grid,
                    prefix_tokens=before,
                    reaches_output=name != last,
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


class TransformersCvT(InStages):
    """CvT: convolutions before queries, keys and values; a class token in the last stage."""

    family = "transformers_cvt"
    models = of("cvt.modeling_cvt.CvtModel")
    stem = "encoder.stages.0.embedding"
    embedding, blocks, token = "encoder.stages.{}.embedding", "encoder.stages.{}.layers", "encoder.stages.{}"
    any_size = True


class TransformersDaViT(InStages):
    """Florence-2's DaViT: blocks of two parts, attention between cells and then between channels."""

    family = "transformers_davit"
    models = of("florence2.modeling_florence2.Florence2VisionBackbone")
    stem = "convs.0"
    embedding, blocks, parts = "convs.{}", "blocks.{}", (".spatial_block", ".channel_block")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [
        TransformersSegformer(),
        TransformersPVT(),
        TransformersPVTv2(),
        TransformersCvT(),
        TransformersDaViT(),
    ]
