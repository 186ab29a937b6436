"""What adapters of ConvNets share: images of any size, two sites a block, a grid that moves where a block strides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from captum_vit import Adapter, PatchGrid, Preprocessing, Site, feed_forward

MAP = "b c h w"
# What blocks call the way around them.
SHORTCUTS = ("downsample", "shortcut", "proj")


class ConvNet(Adapter):
    """A ConvNet, to compare with: of each block, what its last layer reads and what the block gives."""

    def preprocessing(self, model: Any) -> Preprocessing | None:
        """As timm records it, or its defaults, which are torchvision's too; images may have any size."""
        return replace(Preprocessing.of(model), any_size=True)


def residual(name: str, block: nn.Module, last: str, grid: PatchGrid) -> Iterator[Site]:
    """Sites of a block that does not widen: ``NAME.LAST`` is what its last layer reads, ``NAME`` what it gives."""
    layer: Any = block.get_submodule(last)
    yield feed_forward(f"{name}.{last}", reads=layer, grid=grid, layout=MAP)
    yield feed_forward(name, writes=block, units=layer.out_channels, grid=grid, layout=MAP)


def widening(name: str, block: nn.Module, last: Any, grid: PatchGrid, layout: str = MAP) -> Iterator[Site]:
    """Sites of a block that widens and narrows again, as a transformer's feed-forward block does.

    ``NAME`` is what its last layer reads, as in a transformer; ``NAME.output`` is what the block gives.
    """
    units = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    yield feed_forward(name, reads=last, grid=grid, layout=layout)
    yield feed_forward(f"{name}.output", writes=block, units=units, grid=grid, layout=MAP)


def at_last(grid: PatchGrid, block: nn.Module, last: nn.Module) -> PatchGrid:
    """The grid at a block's last layer, and behind it: it moves at the first layer that strides.

    Where several do so side by side, they move it alike.
    """
    behind = set(last.modules())
    for path, layer in block.named_modules():
        if layer in behind:
            break
        around = path.split(".")[0] in SHORTCUTS or next(layer.children(), None) is not None
        stride = getattr(layer, "stride", 1)
        if not around and (stride if isinstance(stride, int) else max(stride)) > 1:
            return grid.through(layer)
    return grid
