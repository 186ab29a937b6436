"""ConViT: gated positional self-attention in the early blocks, which know no class token."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.convit import ConVit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.attention import attention_of


class ConViT(Adapter):
    """A plain transformer into which the class token enters only after the ``local_up_to_layer`` first blocks."""

    family = "convit"
    models = (ConVit,)

    def sites(self, model: ConVit) -> Iterator[Site]:
        """One site a block."""
        grid = PatchGrid.patches(model.patch_embed.feat_ratio(as_scalar=False))
        for i, block in enumerate(model.blocks):
            last = i == len(model.blocks) - 1
            yield feed_forward(
                f"blocks.{i}",
                reads=block.mlp.fc2,
                grid=grid,
                prefix_tokens=int(i >= model.local_up_to_layer),
                attention=attention_of(block.attn),
                reaches_output=not (last and model.global_pool == "token"),
            )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [ConViT()]
