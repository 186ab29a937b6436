"""Layouts: how a hidden activation lies in memory, as a pattern in einops' words, and the way to a map and back."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_vit.errors import LayoutError
from captum_vit.probes.grid import Size

if TYPE_CHECKING:
    from typing import Self

TOKENS = "b (h w) c"
_MAP = "b c h w"


@dataclass(frozen=True)
class Layout:
    """Where batch, units, rows and columns are in an activation.

    Attributes
    ----------
    pattern
        In the language of einops (Rogozhnikov 2022, "Einops: clear and reliable tensor manipulations with
        Einstein-like notation"): the axes of the activation, those that are folded into one in brackets.
        ``"b (h w) c"`` is tokens, ``"b c h w"`` channels first, ``"b h w c"`` channels last. Names other than these
        four need the map after an arrow: ``"(b y x) (h w) c -> b c (y h) (x w)"`` is windows in image order.
    axes
        Lengths that the grid does not tell, by name: the side of a window, the number of heads.
    prefix_tokens, suffix_tokens
        Tokens before and after those of the patches, on the axis that holds rows and columns.
    channels_before, channels_after
        Channels before and after the units, on the axis that holds these: what else a fused layer gives.
    shift
        By how many (rows, columns) cells were moved up and to the left, around the border, before they were laid out.
    filled
        Whether the last windows are filled up with what is no cell, below and to the right.

    Raises
    ------
    LayoutError
        The pattern does not lead from an activation to a map, or has no axis for its prefix tokens or other channels.
    """

    pattern: str = TOKENS
    axes: tuple[tuple[str, int], ...] = ()
    prefix_tokens: int = 0
    suffix_tokens: int = 0
    channels_before: int = 0
    channels_after: int = 0
    shift: Size = (0, 0)
    filled: bool = False

    def __post_init__(self) -> None:
        names = [name for group in self._lies for name in group]
        on_map = [name for group in self._shows for name in group]
        if len(self._shows) != 4 or sorted(names) != sorted(on_map) or len(set(names)) < len(names):
            raise LayoutError(
                f'"{self.pattern}" does not lead to a map; write the axes of the activation, and after an arrow batch, '
                'units, rows and columns of the same names: "(b y x) (h w) c -> b c (y h) (x w)"'
            )
        if unknown := set(dict(self.axes)) - set(names):
            raise LayoutError(f'"{self.pattern}" has no axis {", ".join(sorted(unknown))}; it has {", ".join(names)}')
        if (self.prefix_tokens or self.suffix_tokens) and self.token_axis is None:
            raise LayoutError(
                f'"{self.pattern}" has no axis of tokens, one with all rows and columns and nothing else, so it can '
                'hold no prefix or suffix tokens; "b (h w) c" has one'
            )
        if (self.channels_before or self.channels_after) and self.unit_axis is None:
            raise LayoutError(
                f'"{self.pattern}" has no axis with all units and nothing else, so there can be no other channels '
                'beside them; "b (h w) c" has one'
            )

    @classmethod
    def windows(cls, size: Size, shift: Size = (0, 0)) -> Self:
        """Windows of (rows, columns) one after another in the batch, as in Swin, the last ones filled up.

        Parameters
        ----------
        size
            (rows, columns) of a window.
        shift
            By how many (rows, columns) cells are moved before they are cut into windows.
        """
        sides, by = (("h", size[0]), ("w", size[1])), (shift[0], shift[1])
        return cls("(b y x) (h w) c -> b c (y h) (x w)", sides, shift=by, filled=True)

    @cached_property
    def _lies(self) -> list[list[str]]:
        return _groups(self.pattern.partition("->")[0])

    @cached_property
    def _shows(self) -> list[list[str]]:
        return _groups(self.pattern.partition("->")[2] or _MAP)

    @cached_property
    def token_axis(self) -> int | None:
        """The axis that holds the patches' rows and columns, and nothing else; None if there is none."""
        cells = {*self._shows[2], *self._shows[3]}
        return next((axis for axis, group in enumerate(self._lies) if set(group) == cells), None)

    @cached_property
    def unit_axis(self) -> int | None:
        """The axis that holds the units, and nothing else; None if there is none."""
        return next((axis for axis, group in enumerate(self._lies) if group == self._shows[1]), None)

    @cached_property
    def batch_axis(self) -> int:
        """The axis that holds the images of a batch, outermost where it holds more."""
        return next(axis for axis, group in enumerate(self._lies) if self._shows[0][0] in group)

    def rows_an_image(self, units: int, grid: Size) -> int:
        """How much of the batch's axis one image takes: more than one where windows or parts of it lie there, too."""
        known = self._known(units, grid)
        return math.prod(known[name] for name in self._lies[self.batch_axis] if name in known)

    def fits(self, shape: Sequence[int], units: int, grid: Size) -> bool:
        """Whether an activation of that shape holds so many units on such a grid."""
        lengths = self._lengths(units, grid)
        if lengths is None or len(shape) != len(self._lies):
            return False
        for axis, group in enumerate(self._lies):
            expected = math.prod(lengths[name] for name in group if name in lengths)
            found = shape[axis]
            if axis == self.token_axis:
                found -= self.prefix_tokens + self.suffix_tokens
            if axis == self.unit_axis:
                found -= self.channels_before + self.channels_after
            batched = any(name not in lengths for name in group)
            if found % expected if batched else found != expected:
                return False
        return True

    def describe(self, units: int, grid: Size) -> str:
        """What an activation should be, for messages."""
        cells = f"{grid[0]}x{grid[1]}"
        units += self.channels_before + self.channels_after
        if self.pattern != TOKENS:
            return f'{cells} cells of {units} units laid out as "{self.pattern}"'
        prefix = f"{self.prefix_tokens} prefix + " if self.prefix_tokens else ""
        suffix = f" + {self.suffix_tokens} suffix" if self.suffix_tokens else ""
        return f"(B, {prefix}{cells}{suffix} tokens, {units} units)"

    def own(self, activation: Tensor) -> Tensor:
        """The units' channels of an activation; all of it where there are no others."""
        before, after = self.channels_before, self.channels_after
        if not (before or after):
            return activation
        assert self.unit_axis is not None
        return activation.narrow(self.unit_axis, before, activation.shape[self.unit_axis] - before - after)

    def among_others(self, own: Tensor, activation: Tensor) -> Tensor:
        """An activation with other values in the units' channels; the inverse of :meth:`own`."""
        before, after, axis = self.channels_before, self.channels_after, self.unit_axis
        if not (before or after):
            return own
        assert axis is not None
        behind = activation.narrow(axis, activation.shape[axis] - after, after)
        return torch.cat([activation.narrow(axis, 0, before), own, behind], dim=axis)

    def split(self, activation: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Prefix, patches and suffix of the units' channels; None where there is none of them."""
        axis = self.token_axis
        if axis is None or not (self.prefix_tokens or self.suffix_tokens):
            return None, activation, None
        patches = activation.shape[axis] - self.prefix_tokens - self.suffix_tokens
        prefix = activation.narrow(axis, 0, self.prefix_tokens) if self.prefix_tokens else None
        suffix = (
            activation.narrow(axis, self.prefix_tokens + patches, self.suffix_tokens) if self.suffix_tokens else None
        )
        return prefix, activation.narrow(axis, self.prefix_tokens, patches), suffix

    def to_map(self, patches: Tensor, units: int, grid: Size) -> Tensor:
        """Show patches as a map ``(B, units, rows, columns)``; a view of them where there can be one."""
        cells = _rearrange(patches, self._lies, self._shows, self._known(units, grid))
        if self.filled:
            cells = cells[..., : grid[0], : grid[1]]
        return cells.roll(self.shift, (-2, -1)) if any(self.shift) else cells

    def from_map(self, patch_map: Tensor, units: int, grid: Size, patches: Tensor | None = None) -> Tensor:
        """Lay a map out as its patches were; the inverse of :meth:`to_map`.

        Parameters
        ----------
        patch_map
            Shape ``(B, units, rows, columns)``.
        units, grid
            Number of units, and (rows, columns).
        patches
            What the map was shown of: what fills up windows is taken from there.
        """
        known = self._known(units, grid)
        cells = patch_map.roll([-cells for cells in self.shift], (-2, -1)) if any(self.shift) else patch_map
        if self._whole(grid) != grid:
            if patches is None:
                raise LayoutError(f'"{self.pattern}" fills windows up, with what only the activation itself tells')
            around, (rows, columns) = _rearrange(patches, self._lies, self._shows, known), grid
            cells = torch.cat([cells, around[..., :rows, columns:]], dim=-1)
            cells = torch.cat([cells, around[..., rows:, :]], dim=-2)
        return _rearrange(cells, self._shows, self._lies, known)

    def prefix_to_map(self, prefix: Tensor, units: int) -> Tensor:
        """Show prefix tokens as ``(B, units, 1, prefix_tokens)``."""
        return _rearrange(prefix, self._prefix_lies, self._prefix_shows, self._prefix_known(units))

    def prefix_from_map(self, prefix_map: Tensor, units: int) -> Tensor:
        """Lay prefix tokens out as they were; the inverse of :meth:`prefix_to_map`."""
        return _rearrange(prefix_map, self._prefix_shows, self._prefix_lies, self._prefix_known(units))

    @property
    def _prefix_lies(self) -> list[list[str]]:
        return [["prefix"] if axis == self.token_axis else group for axis, group in enumerate(self._lies)]

    @property
    def _prefix_shows(self) -> list[list[str]]:
        return [*self._shows[:2], [], ["prefix"]]

    def _known(self, units: int, grid: Size) -> dict[str, int]:
        lengths = self._lengths(units, grid)
        if lengths is None:
            raise LayoutError(f'"{self.pattern}" with {dict(self.axes)} has no place for {units} units on {grid} cells')
        return lengths

    def _prefix_known(self, units: int) -> dict[str, int]:
        return {**self._known(units, (1, 1)), "prefix": self.prefix_tokens}

    def _lengths(self, units: int, grid: Size) -> dict[str, int] | None:
        """Length of every axis but the batch's; None if the units, rows or columns cannot be divided so."""
        lengths = dict(self.axes)
        for group, total in zip(self._shows[1:], (units, *self._whole(grid)), strict=True):
            open_ = [name for name in group if name not in lengths]
            known = math.prod(lengths[name] for name in group if name in lengths)
            if len(open_) > 1:
                raise LayoutError(
                    f'the lengths of {", ".join(open_)} in "{self.pattern}" cannot be told; give all but one with axes='
                )
            if total % known or (not open_ and total != known):
                return None
            for name in open_:  # one or none; torch.compile of PyTorch 2.2 fails where dictionaries are joined by |
                lengths[name] = total // known
        return lengths

    def _whole(self, grid: Size) -> Size:
        """A grid with what fills up its last windows."""
        if not self.filled:
            return grid
        known = dict(self.axes)
        sides = [math.prod(known.get(name, 1) for name in group) for group in self._shows[2:]]
        rows, columns = (-(-cells // side) * side for cells, side in zip(grid, sides, strict=True))
        return rows, columns


def _groups(pattern: str) -> list[list[str]]:
    """The axes of a tensor, each as the names that are folded into it."""
    return [part.strip("()").split() for part in re.findall(r"\([^()]*\)|[^\s()]+", pattern)]


def _rearrange(tensor: Tensor, lies: list[list[str]], shows: list[list[str]], lengths: dict[str, int]) -> Tensor:
    """Unfold the axes, put them in order, fold them: what einops' function of that name does.

    Written out, as it takes the shapes of traced and exported tensors as they come.
    """
    names = [name for group in lies for name in group]
    if any(len(group) != 1 for group in lies):
        tensor = tensor.reshape([lengths.get(name, -1) for name in names])
    tensor = tensor.permute([names.index(name) for group in shows for name in group])
    if any(len(group) != 1 for group in shows):
        tensor = tensor.reshape(
            [math.prod(lengths[name] for name in group) if lengths.keys() >= {*group} else -1 for group in shows]
        )
    return tensor
