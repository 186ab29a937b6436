"""What adapters of timm's models share: sizes of images, blocks in stages, layouts of models of two kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch import nn

from captum_vit import Adapter, PatchGrid, Preprocessing
from captum_vit.probes.layout import TOKENS


class AnySize(Adapter):
    """A family whose models take images of other sizes than their own as they are."""

    def preprocessing(self, model: nn.Module) -> Preprocessing:
        """As timm records it, of any size."""
        return replace(Preprocessing.of(model, model.get_submodule(self.stem)), any_size=True)


def blocks_of(
    stages: Iterable[nn.Module], grid: PatchGrid, name: str = "stages"
) -> Iterator[tuple[str, nn.Module, PatchGrid]]:
    """Path, module and grid of every block in stages that begin with a downsampling; ``grid`` is that of the stem."""
    for i, stage in enumerate(stages):
        grid = grid.through(stage.downsample)
        for j, block in enumerate(stage.blocks):
            yield f"{name}.{i}.blocks.{j}", block, grid


def layout_read_by(layer: nn.Module, linear: str = TOKENS) -> str:
    """Layout of what a layer reads in a model of both kinds: channels first for a convolution, else ``linear``."""
    return "b c h w" if isinstance(layer, nn.Conv2d) else linear
