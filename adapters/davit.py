"""DaViT: blocks of window attention and of attention between channels in turn."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.davit import DaVit

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit.probes.layout import Layout
from captum_vit_adapters.any_size import AnySize
from captum_vit_adapters.attention import attention_of


class DaViT(AnySize):
    """DaViT, Florence-2's too: a spatial and a channel block in each, both with a feed-forward part of their own."""

    family = "davit"
    models = (DaVit,)
    stem = "stem"

    def sites(self, model: DaVit) -> Iterator[Site]:
        """Two sites a block, stage by stage; kernels of even size pad their end."""
        grid = PatchGrid().through(model.stem)
        for i, stage in enumerate(model.stages):
            if hasattr(stage.downsample, "conv"):
                conv = stage.downsample.conv
                grid = grid.then(conv.kernel_size, conv.stride, conv.padding, ceil=stage.downsample.even_k)
            for j, pair in enumerate(stage.blocks):
                for name, block in pair.named_children():
                    windows = Layout.windows(block.window_size) if name == "spatial_block" else None
                    attention = attention_of(block.attn, layout=windows)
                    name = f"stages.{i}.blocks.{j}.{name}"
                    yield feed_forward(name, reads=block.mlp.fc2, grid=grid, attention=attention)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [DaViT()]
