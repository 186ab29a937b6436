"""CaiT and XCiT: patch tokens alone go through ``blocks``; the class token joins them only afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.cait import Cait
from timm.models.xcit import Xcit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.attention import attention_of


class CaiT(Adapter):
    """CaiT: no prefix tokens, as the class token meets the patches only in the last two layers, which have no site."""

    family = "cait"
    models = (Cait,)

    def sites(self, model: Cait | Xcit) -> Iterator[Site]:
        """One site a block of patch tokens; class attention reads the last one's, so all reach the output."""
        grid = PatchGrid().through(model.patch_embed)
        for i, block in enumerate(model.blocks):
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid, attention=attention_of(block.attn))


class XCiT(AnySize, CaiT):
    """XCiT: attention between channels, a stem of three or four strided convolutions; otherwise as CaiT."""

    family = "xcit"
    models = (Xcit,)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [CaiT(), XCiT()]
