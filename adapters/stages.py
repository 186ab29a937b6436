"""What adapters of models in stages share: each stage begins with a downsampling, and its blocks keep the grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from captum_vit import PatchGrid
from captum_vit.probes.layout import TOKENS


def blocks_of(
    stages: Iterable[nn.Module], grid: PatchGrid, name: str = "stages"
) -> Iterator[tuple[str, nn.Module, PatchGrid]]:
    """Path, module and grid of every block; ``grid`` is that of the stem."""
    for i, stage in enumerate(stages):
        grid = grid.through(stage.downsample)
        for j, block in enumerate(stage.blocks):
            yield f"{name}.{i}.blocks.{j}", block, grid


def layout_read_by(layer: nn.Module, linear: str = TOKENS) -> str:
    """Layout of what a layer reads in a model of both kinds: channels first for a convolution, else ``linear``."""
    return "b c h w" if isinstance(layer, nn.Conv2d) else linear
