"""Attention as an adapter describes it: which modules give the queries, keys and values of a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from captum_vit.probes.grid import PatchGrid
from captum_vit.probes.layout import Layout

# What layers call the width of what they give.
WIDTHS_WRITTEN = ("out_features", "out_channels")


def width_written(module: nn.Module) -> int | None:
    """How many channels a layer gives; None if it does not tell."""
    return next((width for name in WIDTHS_WRITTEN if isinstance(width := getattr(module, name, None), int)), None)


@dataclass(frozen=True)
class Channels:
    """Channels that lie together in what a module gives: the queries among the output of a fused ``qkv``.

    Attributes
    ----------
    module
        The module.
    first
        Number of the first channel.
    count
        How many there are.
    width
        How many channels the module gives in all.
    """

    module: nn.Module
    first: int
    count: int
    width: int

    @classmethod
    def all_of(cls, module: nn.Module) -> Channels:
        """All that a layer gives.

        Raises
        ------
        TypeError
            The layer does not tell how many those are.
        """
        return cls.split(module, 1)[0]

    @classmethod
    def split(cls, module: nn.Module, parts: int | Sequence[int]) -> tuple[Channels, ...]:
        """The output of a layer, divided along its channels.

        Parameters
        ----------
        module
            A linear layer or a convolution, such as ``block.attn.qkv``.
        parts
            How many equal parts; or the width of each.

        Raises
        ------
        TypeError
            The layer does not tell how many channels it gives, or they cannot be divided so.
        """
        width = sum(parts) if not isinstance(parts, int) else width_written(module)
        if width is None:
            raise TypeError(
                f"{type(module).__name__} has no {' or '.join(WIDTHS_WRITTEN)}; give the width of each part: "
                "Channels.split(module, (384, 384, 384))"
            )
        if isinstance(parts, int):
            if width % parts:
                raise TypeError(f"{width} channels cannot be divided into {parts} equal parts; give the width of each")
            parts = [width // parts] * parts
        starts = [sum(parts[:number]) for number in range(len(parts))]
        return tuple(cls(module, first, count, width) for first, count in zip(starts, parts, strict=True))


@dataclass(frozen=True)
class Attention:
    """Where the queries, keys and values of a block are: outputs of modules, as they are before heads are taken apart.

    Whatever the block does to them afterwards (normalization by heads, rotary positions, scaling) comes later.

    Attributes
    ----------
    query, key, value
        The module that gives them, or channels of one: ``Attention(*Channels.split(block.attn.qkv, 3))``.
    name
        Of the block, before ``.query``; that of the feed-forward site when not given.
    layout
        How they lie in memory, if not as the block's hidden activation does.
    coarser
        Grid of keys and values where it is another than that of the queries.
    """

    query: nn.Module | Channels
    key: nn.Module | Channels
    value: nn.Module | Channels
    name: str | None = None
    layout: Layout | None = None
    coarser: PatchGrid | None = None
