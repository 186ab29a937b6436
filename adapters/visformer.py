"""Visformer: a stage of grouped convolutions, then two of attention."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.visformer import Visformer as TimmVisformer

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class Visformer(Adapter):
    """Visformer: channels first; a grouped 3×3 convolution inside the MLPs of the first stage."""

    family = "visformer"
    models = (TimmVisformer,)
    stem = "stem"

    def sites(self, model: TimmVisformer) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = PatchGrid().through(model.stem)
        for i in (1, 2, 3):
            grid = grid.through(getattr(model, f"patch_embed{i}"))
            for j, block in enumerate(getattr(model, f"stage{i}")):
                yield feed_forward(f"stage{i}.{j}", reads=block.mlp.conv3, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [Visformer()]
