"""Queries, keys and values of small models, found without the package: by hand from weights, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from families import TINY_MODELS
from timm.models.eva import Eva
from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm, linear

Size = tuple[int, int]
PARTS = ("query", "key", "value")
# Where the rows of each part are in a weight: which layer, which part of how many.
LAYERS = {
    "query": (("qkv", 0, 3), ("qk", 0, 2), ("q", 0, 1), ("q_proj", 0, 1)),
    "key": (("qkv", 1, 3), ("qk", 1, 2), ("kv", 0, 2), ("k_proj", 0, 1)),
    "value": (("qkv", 2, 3), ("v", 0, 1), ("kv", 1, 2), ("v_proj", 0, 1)),
}


@dataclass(frozen=True)
class Block:
    """One block: its path, the path of its attention in it, its grid, and its prefix tokens."""

    name: str
    grid: Size
    prefix: int = 0
    attn: str = "attn"
    last: bool = False  # under token pooling, so that nothing reads the queries of patches
    sites: str | None = None  # what sites are called before ".query", if not as the block

    def attention_in(self, model: nn.Module) -> nn.Module:
        return model.get_submodule(f"{self.name}.{self.attn}".rstrip("."))

    def named(self, part: str) -> str:
        return f"{self.sites or self.name}.{part}"


@dataclass(frozen=True)
class Attending:
    """A model whose attention is known: how to build it, its image size, its blocks, and what their attention reads."""

    build: Callable[[], nn.Module]
    size: Size
    blocks: tuple[Block, ...]
    # The module whose output (with "output") or input is what attention reads, in image order, below the block.
    reads: Callable[[Block], tuple[str, str]] = field(default=lambda block: (f"{block.name}.{block.attn}", "input"))

    def images(self, seed: int = 0) -> Tensor:
        return torch.randn(2, 3, *self.size, generator=torch.Generator().manual_seed(seed))

    def sites(self) -> Iterator[tuple[str, Block, str]]:
        for block in self.blocks:
            for part in PARTS:
                yield block.named(part), block, part

    @torch.no_grad()
    def by_hand(self, model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Prefix ``(B, units, 1, prefix)`` and map ``(B, units, rows, columns)`` of each site."""
        read: dict[str, Tensor] = {}
        handles = []
        for block in self.blocks:
            path, which = self.reads(block)

            def keep(module: nn.Module, args: Any, output: Tensor, name: str = block.named(""), which: str = which):
                read[name] = output if which == "output" else args[0]

            handles.append(model.get_submodule(path).register_forward_hook(keep))
        model(images)
        for handle in handles:
            handle.remove()
        found = {}
        for name, block, part in self.sites():
            attn = block.attention_in(model)
            tokens = read[block.named("")].flatten(1, -2)
            grid = block.grid
            if part != "query" and getattr(attn, "sr", None) is not None:
                tokens, grid = subsampled(attn, tokens, grid)
            weight, bias = rows_of(attn, part)
            found[name] = cell_by_cell(linear(tokens, weight, bias), grid, block.prefix)
        return found


def rows_of(attn: nn.Module, part: str) -> tuple[Tensor, Tensor | None]:
    """The rows of a layer's weight and bias that give a part; views of them."""
    for name, which, count in LAYERS[part]:
        if (layer := getattr(attn, name, None)) is not None:
            return layer.weight.chunk(count)[which], None if layer.bias is None else layer.bias.chunk(count)[which]
    hidden, *widths = attn.in_split  # attention and feed-forward side by side
    start = hidden + sum(widths[: PARTS.index(part)])
    rows = slice(start, start + widths[0])
    return attn.in_proj.weight[rows], None if attn.in_proj.bias is None else attn.in_proj.bias[rows]


def subsampled(attn: nn.Module, tokens: Tensor, grid: Size) -> tuple[Tensor, Size]:
    """What keys and values are made of in Twins' global attention: fewer cells, by a strided convolution."""
    cells = tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
    cells = conv2d(cells, attn.sr.weight, attn.sr.bias, stride=attn.sr.stride)
    tokens = cells.flatten(2).transpose(1, 2)
    tokens = layer_norm(tokens, tokens.shape[-1:], attn.norm.weight, attn.norm.bias, attn.norm.eps)
    return tokens, (cells.shape[2], cells.shape[3])


def cell_by_cell(tokens: Tensor, grid: Size, prefix: int) -> tuple[Tensor, Tensor]:
    rows, columns = grid
    assert tokens.shape[1] == prefix + rows * columns
    patch_map = tokens.new_empty(len(tokens), tokens.shape[2], rows, columns)
    for row in range(rows):
        for column in range(columns):
            patch_map[:, :, row, column] = tokens[:, prefix + row * columns + column]
    return tokens[:, :prefix].permute(0, 2, 1)[:, :, None], patch_map


def tiny(name: str, size: Size, *blocks: Block, reads: str = "attn", **changes: Any) -> Attending:
    """One of the tiny models, at an image size that is not square where it has one."""
    build = partial(TINY_MODELS[name].build, **changes)
    where = {
        "norm1": lambda block: (f"{block.name}.norm1", "output"),
        "block": lambda block: (block.name, "input"),
        "in_proj": lambda block: (f"{block.name}.in_proj", "input"),
    }
    return Attending(build, size, blocks, where[reads]) if reads in where else Attending(build, size, blocks)


def eva(**settings: Any) -> Attending:
    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sizes = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
            return Eva(**sizes, num_classes=5, **settings).eval()

    return Attending(build, (32, 48), tuple(Block(f"blocks.{i}", (4, 6), 1) for i in range(2)))


def plain_blocks(grid: Size, prefix: int, depth: int = 3, pooled: bool = False) -> list[Block]:
    return [Block(f"blocks.{i}", grid, prefix, last=not pooled and i == depth - 1) for i in range(depth)]


def serial(scale: int, grid: Size, **more: Any) -> Block:
    return Block(f"serial_blocks{scale}.0", grid, 1, "factoratt_crpe", **more)


def parallel(number: int, scale: int, grid: Size) -> Block:
    attn = f"factoratt_crpe{scale}"
    return Block(f"parallel_blocks.{number}", grid, 1, attn, number == 1, f"parallel_blocks.{number}.{attn}")


WIDE = {"img_size": (32, 48)}
ATTENDING: dict[str, Attending] = {
    "deit": tiny("deit", (32, 48), *plain_blocks((4, 6), 1), **WIDE),
    "deit_distilled": tiny("deit_distilled", (32, 48), *plain_blocks((4, 6), 2), **WIDE),
    "vit_without_class_token": tiny("vit_without_class_token", (32, 48), *plain_blocks((4, 6), 0, pooled=True), **WIDE),
    "vit_parallel_scaling": tiny(
        "vit_parallel_scaling",
        (32, 48),
        *(Block(f"blocks.{i}", (4, 6), 1, "", last=i == 2) for i in range(3)),
        reads="in_proj",
        **WIDE,
    ),
    "convit": tiny("convit", (32, 32), *(Block(f"blocks.{i}", (4, 4), int(i > 1), last=i == 3) for i in range(4))),
    "pit": tiny(
        "pit",
        (64, 96),
        Block("transformers.0.blocks.0", (7, 11), 1),
        *(Block(f"transformers.1.blocks.{i}", (4, 6), 1) for i in range(2)),
        Block("transformers.2.blocks.0", (2, 3), 1, last=True),
        img_size=(64, 96),
    ),
    "coat": tiny(
        "coat",
        (64, 96),
        *(serial(scale, (32 // 2**scale, 48 // 2**scale)) for scale in (1, 2, 3, 4)),
        *(parallel(i, scale, (32 // 2**scale, 48 // 2**scale)) for i in range(2) for scale in (2, 3, 4)),
        img_size=(64, 96),
    ),
    # 11 × 14 cells in windows of 3 × 3, every second block shifted by one: windows at the end are filled up.
    "swin": tiny(
        "swin",
        (44, 56),
        *(Block(f"layers.0.blocks.{i}", (11, 14)) for i in range(2)),
        *(Block(f"layers.1.blocks.{i}", (6, 7)) for i in range(2)),
        Block("layers.2.blocks.0", (3, 4)),
        reads="norm1",
        img_size=(44, 56),
    ),
    "swin_v2_cr": tiny(
        "swin_v2_cr",
        (44, 56),
        *(Block(f"stages.0.blocks.{i}", (11, 14)) for i in range(2)),
        *(Block(f"stages.1.blocks.{i}", (6, 7)) for i in range(2)),
        reads="block",
        img_size=(44, 56),
    ),
    "twins_pcpvt": tiny(
        "twins_pcpvt",
        (64, 96),
        *(Block(f"blocks.{stage}.0", (16 // 2**stage, 24 // 2**stage)) for stage in range(4)),
        Block("blocks.3.1", (2, 3)),
        img_size=(64, 96),
    ),
    # 16 rows in windows of 3, and 4: the last are filled up.
    "twins_svt": tiny(
        "twins_svt",
        (64, 96),
        *(Block(f"blocks.0.{i}", (16, 24)) for i in range(2)),
        Block("blocks.1.0", (8, 12)),
        *(Block(f"blocks.2.{i}", (4, 6)) for i in range(2)),
        Block("blocks.3.0", (2, 3)),
        reads="norm1",
        img_size=(64, 96),
        wss=(3, 4, 3, 2),
    ),
    "eva_of_three_layers": eva(qkv_fused=False, use_rot_pos_emb=True),
    "eva_without_bias": eva(qkv_bias=False, use_rot_pos_emb=True),
    "eva_of_shared_keys": eva(attn_type="rope", num_kv_heads=1, qkv_fused=False, use_rot_pos_emb=True),
}
