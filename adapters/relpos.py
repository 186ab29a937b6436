"""Plain transformers with relative instead of absolute positions, most of them without a class token."""

from __future__ import annotations

from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from captum_vit import Adapter, hookimpl
from captum_vit_adapters.deit import DeiT


class RelPos(DeiT):
    """ViT with relative positions; the small MLPs that compute these are no feed-forward blocks."""

    family = "vit_relpos"
    models = (VisionTransformerRelPos,)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [RelPos()]
