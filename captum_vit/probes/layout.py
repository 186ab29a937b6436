"""Layouts: how a hidden activation lies in memory, as a pattern in einops' words, and the way to a map and back."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from captum_vit.errors import LayoutError
from captum_vit.probes.grid import Size

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

    Raises
    ------
    LayoutError
        The pattern does not lead from an activation to a map, or has no axis for its prefix tokens.
    """

    pattern: str = TOKENS
    axes: tuple[tuple[str, int], ...] = ()
    prefix_tokens: int = 0
    suffix_tokens: int = 0

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
    def batch_axis(self) -> int:
        """The axis that holds the images of a batch, outermost where it holds more."""
        return next(axis for axis, group in enumerate(self._lies) if self._shows[0][0] in group)

    def fits(self, shape: Sequence[int], units: int, grid: Size) -> bool:
        """Whether an activation of that shape holds so many units on such a grid."""
        lengths = self._lengths(units, grid)
        if lengths is None or len(shape) != len(self._lies):
            return False
        others = self.prefix_tokens + self.suffix_tokens
        for axis, group in enumerate(self._lies):
            expected = math.prod(lengths[name] for name in group if name in lengths)
            found = shape[axis] - (others if axis == self.token_axis else 0)
            batched = any(name not in lengths for name in group)
            if found % expected if batched else found != expected:
                return False
        return True

    def describe(self, units: int, grid: Size) -> str:
        """What an activation should be, for messages."""
        cells = f"{grid[0]}x{grid[1]}"
        if self.pattern != TOKENS:
            return f'{cells} cells of {units} units laid out as "{self.pattern}"'
        prefix = f"{self.prefix_tokens} prefix + " if self.prefix_tokens else ""
        suffix = f" + {self.suffix_tokens} suffix" if self.suffix_tokens else ""
        return f"(B, {prefix}{cells}{suffix} tokens, {units} units)"

    def split(self, activation: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Prefix, patches and suffix; None where there is none of them."""
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
        return _rearrange(patches, self._lies, self._shows, self._known(units, grid))

    def from_map(self, patch_map: Tensor, units: int, grid: Size) -> Tensor:
        """Lay a map out as its patches were; the inverse of :meth:`to_map`."""
        return _rearrange(patch_map, self._shows, self._lies, self._known(units, grid))

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
        return self._known(units, (1, 1)) | {"prefix": self.prefix_tokens}

    def _lengths(self, units: int, grid: Size) -> dict[str, int] | None:
        """Length of every axis but the batch's; None if the units, rows or columns cannot be divided so."""
        lengths = dict(self.axes)
        for group, total in zip(self._shows[1:], (units, *grid), strict=True):
            open_ = [name for name in group if name not in lengths]
            known = math.prod(lengths[name] for name in group if name in lengths)
            if len(open_) > 1:
                raise LayoutError(
                    f'the lengths of {", ".join(open_)} in "{self.pattern}" cannot be told; give all but one with axes='
                )
            if total % known or (not open_ and total != known):
                return None
            lengths |= dict.fromkeys(open_, total // known)
        return lengths


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
