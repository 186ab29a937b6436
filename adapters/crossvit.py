"""CrossViT: two branches of tokens side by side, each of the image at a size of its own."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.crossvit import CrossVit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class CrossViT(Adapter):
    """CrossViT: small and large patches in two branches, which exchange class tokens; both reach the output."""

    family = "crossvit"
    models = (CrossVit,)
    stem = "patch_embed.0"

    def sites(self, model: CrossVit) -> Iterator[Site]:
        """One site a block of each branch."""
        image = PatchGrid()
        fitted = image.cropped if model.crop_scale else image.resized
        sizes = zip(model.img_size_scaled, model.patch_embed, strict=True)
        grids = [fitted(size).through(patch_embed) for size, patch_embed in sizes]
        for i, multi_scale in enumerate(model.blocks):
            for branch, blocks in enumerate(multi_scale.blocks):
                for j, block in enumerate(blocks):
                    yield feed_forward(
                        f"blocks.{i}.blocks.{branch}.{j}", reads=block.mlp.fc2, grid=grids[branch], prefix_tokens=1
                    )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [CrossViT()]
