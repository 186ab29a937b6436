"""NesT: attention within blocks of the image, which are merged level by level."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.nest import Nest as TimmNest

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class NesT(Adapter):
    """NesT: tokens of four dimensions, block by block; the levels pool, with padding "same" in the ``_jx`` variants."""

    family = "nest"
    models = (TimmNest,)

    def sites(self, model: TimmNest) -> Iterator[Site]:
        """One site a layer, level by level."""
        grid = PatchGrid().through(model.patch_embed)
        for i, level in enumerate(model.levels):
            grid = grid.through(level.pool)
            for j, layer in enumerate(level.transformer_encoder):
                yield feed_forward(
                    f"levels.{i}.transformer_encoder.{j}",
                    reads=layer.mlp.fc2,
                    grid=grid,
                    layout="b (y x) (h w) c -> b c (y h) (x w)",
                    axes={"h": level.block_size, "w": level.block_size},
                )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [NesT()]
