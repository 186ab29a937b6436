"""Image encoders of transformers that keep cells as an image between windows: Segment Anything's three, and ViTDet."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.from_transformers import FromTransformers, blocks, of, second_linear
from captum_vit_adapters.transformers_vit import TransformersViT


class TransformersViTDet(TransformersViT):
    """ViTDet and SAM 3: windows in most blocks, undone before the feed-forward block; channels last."""

    family = "transformers_vitdet"
    models = of(
        "sam3.modeling_sam3.Sam3ViTModel", "vitdet.modeling_vitdet.VitDetBackbone", "vitdet.modeling_vitdet.VitDetModel"
    )
    layout = "b h w c"


class TransformersSAM(TransformersViTDet):
    """SAM, and the encoders that others took over from it: their stem is ``patch_embed``."""

    family = "transformers_sam"
    models = of(
        "deepseek_ocr2.modeling_deepseek_ocr2.DeepseekOcr2SamVisionEncoder",
        "got_ocr2.modeling_got_ocr2.GotOcr2VisionEncoder",
        "sam.modeling_sam.SamVisionEncoder",
        "sam_hq.modeling_sam_hq.SamHQVisionEncoder",
    )
    stem = "patch_embed"


class TransformersHieraDet(FromTransformers):
    """SAM 2's encoder: Hiera with windows in image order, channels last; queries are pooled where a stage begins."""

    family = "transformers_hieradet"
    models = of("sam2.modeling_sam2.Sam2HieraDetModel")
    stem = "patch_embed"

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block."""
        grid = PatchGrid().through(model.patch_embed)
        for name, block in blocks(model):
            if block.query_stride is not None:
                grid = grid.then(block.query_stride, block.query_stride)
            yield feed_forward(name, reads=second_linear(name, block), grid=grid, layout="b h w c")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [TransformersViTDet(), TransformersSAM(), TransformersHieraDet()]
