"""TNT: a transformer over the pixels of each patch inside a transformer over patches."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models import tnt

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class TNT(Adapter):
    """TNT: two sites a block, a fine one over the pixels of all patches and a coarse one with a class token."""

    family = "tnt"
    models = (tnt.TNT,)
    stem = "pixel_embed"

    def sites(self, model: tnt.TNT) -> Iterator[Site]:
        """The inner and the outer feed-forward part of each block; inside, the patches are in the batch."""
        embed = model.pixel_embed
        rows, columns = embed.new_patch_size
        pixels = PatchGrid().through(embed.proj)
        patches = PatchGrid.patches(embed.patch_size)
        for i, block in enumerate(model.blocks):
            last = i == len(model.blocks) - 1
            yield feed_forward(
                f"blocks.{i}.mlp_in",
                reads=block.mlp_in.fc2,
                grid=pixels,
                layout="(b h w) (y x) c -> b c (h y) (w x)",
                axes={"y": rows, "x": columns},
            )
            yield feed_forward(
                f"blocks.{i}.mlp",
                reads=block.mlp.fc2,
                grid=patches,
                prefix_tokens=model.num_prefix_tokens,
                reaches_output=not (last and model.global_pool == "token"),
            )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [TNT()]
