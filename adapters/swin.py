"""Swin, Swin V2 and Swin V2-CR: windows and shifts are undone before the feed-forward block reads its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit.probes.grid import Size
from captum_vit.probes.layout import Layout
from captum_vit_adapters.attention import attention_of


@dataclass(frozen=True)
class Windows(Layout):
    """Windows of a block, as long as the block keeps them: ``set_input_size`` changes them and their shift."""

    block: nn.Module | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, block: nn.Module) -> Windows:
        """The windows in which a block attends now."""
        return replace(cls.windows(block.window_size, block.shift_size), block=block)

    def fits(self, shape: Sequence[int], units: int, grid: Size) -> bool:
        """See :class:`Layout`."""
        same = self.block is None or tuple(self.block.shift_size) == self.shift
        return same and super().fits(shape, units, grid)


class Swin(Adapter):
    """Stages of blocks without prefix tokens; patch merging halves the grid, rounding up."""

    family = "swin"
    models = (SwinTransformer, SwinTransformerV2, SwinTransformerV2Cr)

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block, stage by stage; V2-CR calls its stages ``stages``, the others ``layers``."""
        name = "stages" if isinstance(model, SwinTransformerV2Cr) else "layers"
        grid = PatchGrid.patches(model.patch_embed.patch_size)
        for i, stage in enumerate(getattr(model, name)):
            if not isinstance(stage.downsample, nn.Identity):
                grid = grid.then(2, 2, ceil=True)
            for j, block in enumerate(stage.blocks):
                attention = attention_of(block.attn, layout=Windows.of(block))
                yield feed_forward(f"{name}.{i}.blocks.{j}", reads=block.mlp.fc2, grid=grid, attention=attention)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [Swin()]
