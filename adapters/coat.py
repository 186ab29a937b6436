"""CoaT and CoaT-Lite: four serial scales, then (not in Lite) parallel blocks that run three scales side by side."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.coat import CoaT as TimmCoaT

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.attention import attention_of


class CoaT(Adapter):
    """Serial blocks are sites; a parallel block is three, as its one shared MLP runs at scales 2, 3 and 4."""

    family = "coat"
    models = (TimmCoaT,)
    stem = "patch_embed1"

    def sites(self, model: TimmCoaT) -> Iterator[Site]:
        """Serial sites scale by scale, then ``mlp2``, ``mlp3`` and ``mlp4`` of each parallel block."""
        token_pooled = model.global_pool == "token" and not model.return_interm_layers
        parallel_blocks = model.parallel_blocks or ()
        grid, grids = PatchGrid(), {}
        for scale in (1, 2, 3, 4):
            if getattr(model, f"patch_embed{scale}") is None:
                return  # pruned by timm's features_only
            grid = grids[scale] = grid.then(*2 * (getattr(model, f"patch_embed{scale}").patch_size,))
            blocks = getattr(model, f"serial_blocks{scale}")
            for i, block in enumerate(blocks):
                ends_here = scale == 4 and not parallel_blocks and i == len(blocks) - 1
                yield feed_forward(
                    f"serial_blocks{scale}.{i}",
                    reads=block.mlp.fc2,
                    grid=grid,
                    prefix_tokens=1,
                    attention=attention_of(block.factoratt_crpe),
                    reaches_output=not (ends_here and token_pooled),
                )
        for i, block in enumerate(parallel_blocks):
            for scale in (2, 3, 4):
                attention = f"factoratt_crpe{scale}"
                yield feed_forward(
                    f"parallel_blocks.{i}.mlp{scale}",
                    reads=getattr(block, f"mlp{scale}").fc2,
                    grid=grids[scale],
                    prefix_tokens=1,
                    attention=attention_of(getattr(block, attention), name=f"parallel_blocks.{i}.{attention}"),
                    reaches_output=not (i == len(parallel_blocks) - 1 and token_pooled),
                )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [CoaT()]
