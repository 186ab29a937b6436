"""MobileViT and MobileViT v2: inverted bottlenecks, and transformers over unfolded patches."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.byobnet import BottleneckBlock, ByobNet
from timm.models.mobilevit import MobileVitBlock, MobileVitV2Block
from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class MobileViT(AnySize):
    """MobileViT v1 and v2: channels first outside; inside, the cells of 2 × 2 patches lie apart, in batch or rows."""

    family = "mobilevit"
    stem = "stem"

    def serves(self, model: nn.Module) -> bool:
        """Serve the ByobNets that hold a block of MobileViT."""
        blocks = (MobileVitBlock, MobileVitV2Block)
        return isinstance(model, ByobNet) and any(isinstance(module, blocks) for module in model.modules())

    def sites(self, model: ByobNet) -> Iterator[Site]:
        """One site a bottleneck, one a layer of each transformer."""
        grid = PatchGrid().through(model.stem)
        for name, block in model.stages.named_modules(prefix="stages"):
            if isinstance(block, BottleneckBlock):
                grid = grid.through(block.conv2_kxk)
                yield feed_forward(name, reads=block.conv3_1x1.conv, grid=grid, layout="b c h w")
            elif isinstance(block, MobileVitBlock | MobileVitV2Block):
                first = isinstance(block, MobileVitBlock)
                layout = "(b y x) (h w) c" if first else "b c (y x) (h w)"
                for i, layer in enumerate(block.transformer):
                    yield feed_forward(
                        f"{name}.transformer.{i}",
                        reads=layer.mlp.fc2,
                        grid=grid,
                        layout=f"{layout} -> b c (h y) (w x)",
                        axes=dict(zip("yx", block.patch_size, strict=True)),
                    )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [MobileViT()]
