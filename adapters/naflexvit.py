"""NaFlexViT: SigLIP 2, RADIO and their kin in timm's model for patches of any aspect ratio."""

from __future__ import annotations

from collections.abc import Iterator

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.deit import hidden


class NaFlexViT(AnySize):
    """NaFlexViT (SigLIP 2, RADIO): images ``(B, 3, H, W)`` of any multiple of the patch; none of patches cut before."""

    family = "naflexvit"
    models = ("timm.models.naflexvit.NaFlexVit",)
    stem = "embeds"

    def sites(self, model) -> Iterator[Site]:
        """One site a block."""
        grid = PatchGrid.patches(model.embeds.patch_size, ceil=model.embeds.dynamic_img_pad)
        for i, block in enumerate(model.blocks):
            last = i == len(model.blocks) - 1
            for described in hidden(f"blocks.{i}", block):
                yield feed_forward(
                    **described,
                    grid=grid,
                    prefix_tokens=model.num_prefix_tokens,
                    reaches_output=not (last and model.global_pool == "token"),
                )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [NaFlexViT()]
