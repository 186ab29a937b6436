"""Hiera, and SAM 2's version of it: blocks that pool their queries where a stage begins."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.hiera import Hiera as TimmHiera
from timm.models.hieradet_sam2 import HieraDet as TimmHieraDet

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class Hiera(Adapter):
    """Hiera: tokens lie in the order of mask units, so that those which are pooled together are far apart."""

    family = "hiera"
    models = (TimmHiera,)

    def sites(self, model: TimmHiera) -> Iterator[Site]:
        """One site a block; each pooling takes the outermost of the strides by which tokens are unrolled."""
        grid, left = PatchGrid().through(model.patch_embed), len(model.unroll.schedule)
        for i, block in enumerate(model.blocks):
            strides, _ = model.reroll.schedule[i]
            if len(strides) < left:
                grid, left = grid.then(model.q_stride, model.q_stride), len(strides)
            layout, axes = mask_units(strides)
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid, layout=layout, axes=axes)


class HieraDet(AnySize):
    """The image encoder of SAM 2: Hiera with windows in image order, channels last."""

    family = "hieradet"
    models = (TimmHieraDet,)

    def sites(self, model: TimmHieraDet) -> Iterator[Site]:
        """One site a block."""
        grid = PatchGrid().through(model.patch_embed)
        for i, block in enumerate(model.blocks):
            grid = grid.through(block.pool)
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid, layout="b h w c")


def mask_units(strides: list[tuple[int, int]]) -> tuple[str, dict[str, int]]:
    """Layout of unrolled tokens, and its lengths: the position within the finest stride is the outermost axis."""
    finest_first = range(len(strides))
    tokens = " ".join(f"y{n} x{n}" for n in finest_first)
    rows, columns = (" ".join([axis, *(f"{axis}{n}" for n in reversed(finest_first))]) for axis in "yx")
    axes = {f"{axis}{n}": strides[n][k] for n in finest_first for k, axis in enumerate("yx")}
    return f"b ({tokens} y x) c -> b c ({rows}) ({columns})", axes


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [Hiera(), HieraDet()]
