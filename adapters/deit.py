"""DeiT and every other timm VisionTransformer: CLIP, DINO, DINOv2, SigLIP, DeiT-III; gated and parallel blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from timm.models.vision_transformer import (
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    VisionTransformer,
)
from torch import nn

from captum_vit import Adapter, Attention, Channels, PatchGrid, Site, feed_forward, hookimpl
from captum_vit.errors import UnsupportedModelError
from captum_vit_adapters.attention import attention_of

FUSED_OUTPUT = "one output projection sums what attention gives and what the feed-forward block gives"


class DeiT(Adapter):
    """Plain transformers: one grid throughout, prefix tokens from the first block to the last."""

    family = "deit"
    models = (VisionTransformer,)

    def sites(self, model: VisionTransformer) -> Iterator[Site]:
        """One site a block; one for each parallel feed-forward of a block that has several."""
        grid, prefix_tokens = patch_grid(model.patch_embed), model.num_prefix_tokens
        if getattr(model, "dist_token", None) is not None:
            prefix_tokens = max(prefix_tokens, 2)  # DeiT's own subclass does not count its second token
        for i, block in enumerate(model.blocks):
            last = i == len(model.blocks) - 1
            for described in hidden(f"blocks.{i}", block):
                yield feed_forward(
                    **described,
                    grid=grid,
                    prefix_tokens=prefix_tokens,
                    # MAE's own subclass says False where it pools by the class token.
                    reaches_output=not (last and model.global_pool in ("token", False)),
                )


def patch_grid(patch_embed: nn.Module) -> PatchGrid:
    """Grid of a timm patch embedding."""
    height, width = patch_embed.feat_ratio(as_scalar=False)
    return PatchGrid.patches((height, width), ceil=getattr(patch_embed, "dynamic_img_pad", False))


def hidden(name: str, block: nn.Module) -> Iterable[dict[str, Any]]:
    """Where a block's hidden activations are, and its attention, in the words of :func:`feed_forward`."""
    if isinstance(block, ParallelThingsBlock):
        return [
            {
                "name": f"{name}.ffns.{j}",
                "reads": second_linear(name, ffn.mlp),
                "attention": attention_of(attention.attn, name=f"{name}.attns.{j}"),
            }
            for j, (attention, ffn) in enumerate(zip(block.attns, block.ffns, strict=True))
        ]
    if isinstance(block, ParallelScalingBlock | DiffParallelScalingBlock):
        # Their output projection may be fused with the attention's and then reads both at once; the dropout just
        # before it reads the hidden activation alone.
        return [
            {
                "name": name,
                "reads": block.mlp_drop,
                "units": block.in_split[0],
                "activation": block.mlp_act,
                "attention": Attention(*Channels.split(block.in_proj, block.in_split)[1:]),
                "output": getattr(block, "mlp_out_proj", None) or FUSED_OUTPUT,
            },
        ]
    return [
        {"name": name, "reads": second_linear(name, block.mlp), "attention": attention_of(getattr(block, "attn", None))}
    ]


def second_linear(name: str, mlp: nn.Module) -> nn.Module:
    """The layer of a plain or gated MLP that reads its hidden activation; ViTamin calls it ``w2``."""
    for attribute in ("fc2", "w2"):
        if hasattr(mlp, attribute):
            return getattr(mlp, attribute)
    raise UnsupportedModelError(
        f'the feed-forward block {type(mlp).__name__} at "{name}" has no second linear layer "fc2" or "w2"; write an '
        "adapter that tells which layer reads its hidden activation"
    )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [DeiT()]
