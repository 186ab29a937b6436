"""What the neurons of the tiny models are, found without the package: hooks of its own, feed-forward blocks by hand."""

from __future__ import annotations

import torch
from timm.layers import GluMlp, SwiGLU
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, silu

# What each architecture's own code and settings give: site, units, grid, prefix tokens.
Expected = list[tuple[str, int, tuple[int, int], int]]


def blocks(prefix_tokens: int, units: int = 96, names: str = "blocks.{}", depth: int = 3) -> Expected:
    return [(names.format(i), units, (4, 4), prefix_tokens) for i in range(depth)]


def stages(names: str, depths: tuple[int, ...], units: tuple[int, ...], sides: tuple[int, ...], prefix=0) -> Expected:
    return [
        (names.format(stage, i), units[stage], (sides[stage], sides[stage]), prefix)
        for stage, depth in enumerate(depths)
        for i in range(depth)
    ]


EXPECTED: dict[str, Expected] = {
    "deit": blocks(1),
    "deit_distilled": blocks(2),
    "vit_without_class_token": blocks(0),
    "vit_with_registers": blocks(5),
    "vit_map_pooled": blocks(0),
    "vit_swiglu": blocks(1),
    "vit_glu": blocks(1, units=48),
    "vit_parallel_scaling": blocks(1),
    "vit_parallel_scaling_fused": blocks(1),
    "vit_parallel_differential": blocks(1, units=192),
    "vit_parallel_things": [(f"blocks.{i}.ffns.{j}", 96, (4, 4), 1) for i in range(3) for j in range(2)],
    "vit_padded": blocks(1),
    "convit": [(f"blocks.{i}", 96, (4, 4), prefix) for i, prefix in enumerate((0, 0, 1, 1))],
    "coat_lite": [
        (f"serial_blocks{name[0]}.{name[1]}", units, grid, prefix)
        for name, units, grid, prefix in stages("{}{}", (0, 1, 2, 1, 2), (0, 64, 128, 96, 128), (0, 16, 8, 4, 2), 1)
    ],
    "coat": [(f"serial_blocks{scale}.0", 64 if scale == 1 else 96, 2 * (32 // 2**scale,), 1) for scale in (1, 2, 3, 4)]
    + [(f"parallel_blocks.{i}.mlp{scale}", 96, 2 * (32 // 2**scale,), 1) for i in range(2) for scale in (2, 3, 4)],
    "pit": stages("transformers.{}.blocks.{}", (1, 2, 1), (48, 96, 192), (7, 4, 2), 1),
    "pit_distilled": stages("transformers.{}.blocks.{}", (1, 1, 1), (48, 96, 192), (7, 4, 2), 2),
    "swin": stages("layers.{}.blocks.{}", (2, 2, 1), (96, 192, 384), (11, 6, 3)),
    "swin_v2": stages("layers.{}.blocks.{}", (2, 2), (96, 192), (11, 6)),
    "swin_v2_cr": stages("stages.{}.blocks.{}", (2, 2), (96, 192), (11, 6)),
    "twins_pcpvt": stages("blocks.{}.{}", (1, 1, 1, 2), (32, 64, 96, 128), (16, 8, 4, 2)),
    "twins_svt": stages("blocks.{}.{}", (2, 1, 2, 1), (32, 64, 96, 128), (16, 8, 4, 2)),
}


class Oracle:
    """Finds by hand, in a model as timm made it, what each site's second linear layer reads."""

    def __init__(
        self, name: str, model: nn.Module, grids: dict[tuple[int, int], tuple[int, int]] | None = None
    ) -> None:
        """``grids`` tells which grids another image size gives in the place of those that are expected."""
        self.expected = {
            site: (units, (grids or {}).get(grid, grid), prefix) for site, units, grid, prefix in EXPECTED[name]
        }
        self.model = model

    def feed_forward(self, site: str) -> nn.Module:
        block = self.model.get_submodule(site)
        return getattr(block, "mlp", block)  # itself: CoaT's shared MLP, and blocks that fuse MLP and attention

    def second_linear(self, site: str) -> nn.Module:
        layer = self.feed_forward(site)
        return next(getattr(layer, n) for n in ("fc2", "mlp_out_proj", "out_proj") if getattr(layer, n, None))

    def sharing(self, site: str) -> list[str]:
        """The sites whose second linear layer is this one's too, in the order in which it is called for them."""
        return [other for other in self.expected if self.second_linear(other) is self.second_linear(site)]

    def calls(self, find, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's output, and the input of ``find(site)``; sites that share a module are its calls in turn."""
        waiting: dict[nn.Module, list[str]] = {}
        for site in self.expected:
            waiting.setdefault(find(site), []).append(site)
        seen = {}
        hooks = [
            module.register_forward_pre_hook(lambda m, args: seen.update({waiting[m].pop(0): args[0]}))
            for module in waiting
        ]
        output = self.model(images)
        for hook in hooks:
            hook.remove()
        assert not any(waiting.values())
        return output, seen

    @torch.no_grad()
    def read(self, images: Tensor) -> dict[str, Tensor]:
        """Tokens ``(B, N, units)`` as the second linear layer gets them."""
        return {
            site: tokens[..., -self.expected[site][0] :]  # one that is fused with the attention's reads it first
            for site, tokens in self.calls(self.second_linear, images)[1].items()
        }

    @torch.no_grad()
    def computed(self, images: Tensor) -> dict[str, Tensor]:
        """Tokens ``(B, N, units)`` from the block's formula."""
        return {
            site: hidden_by_hand(self.feed_forward(site), tokens)
            for site, tokens in self.calls(self.feed_forward, images)[1].items()
        }

    def split(self, site: str, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix ``(B, units, 1, prefix_tokens)`` and map ``(B, units, rows, columns)``."""
        units, (rows, columns), prefix = self.expected[site]
        assert tokens.shape[1:] == (prefix + rows * columns, units)
        patch_map = tokens.new_empty(len(tokens), units, rows, columns)
        for row in range(rows):
            for column in range(columns):
                patch_map[:, :, row, column] = tokens[:, prefix + row * columns + column]
        return tokens[:, :prefix].permute(0, 2, 1)[:, :, None], patch_map


def hidden_by_hand(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, SwiGLU):
        return silu(layer.fc1_g(x)) * layer.fc1_x(x)
    if isinstance(layer, GluMlp):
        value, gate = layer.fc1(x).chunk(2, dim=-1)
        return value * silu(gate)
    if hasattr(layer, "in_proj"):
        width = layer.in_proj.out_features - 3 * layer.in_proj.in_features
        fc1_bias = layer.in_proj.bias[:width] if layer.mlp_bias is None else layer.mlp_bias
        return gelu(linear(layer.in_norm(x), layer.in_proj.weight[:width], fc1_bias))
    return gelu(layer.fc1(x))
