"""Pixtral's vision tower in transformers: the patches of all images of a batch in one row."""

from __future__ import annotations

from captum_vit import Adapter, hookimpl
from captum_vit_adapters.from_transformers import of
from captum_vit_adapters.transformers_vit import TransformersViT


class TransformersPixtral(TransformersViT):
    """Pixtral: images of one size in a batch, one behind the other as one sequence; images of any size."""

    family = "transformers_pixtral"
    models = of("pixtral.modeling_pixtral.PixtralVisionModel")
    stem = "patch_conv"
    layout = "row (b h w) c -> (row b) c h w"
    axes = {"row": 1}  # noqa: RUF012, a constant
    any_size = True


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [TransformersPixtral()]
