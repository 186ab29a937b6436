"""Places: which pixel stands for each element of a tensor, followed through every operation that moves cells.

No shape shows the order of tokens. So beside the tensors of a trace, which may have no values, go whole numbers that
have: the number of a pixel, row by row, for each element, and -1 for what did not come from the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

from captum_vit.errors import LayoutError
from captum_vit.probes.grid import Size
from captum_vit.probes.layout import Layout

NOWHERE = -1

# Elements of the largest tensor that is copied. Larger are queries, keys and values of images of a thousand pixels,
# which need not be followed: tokens go past attention, too.
LARGEST = 24_000_000

_RESHAPES = ("view", "_unsafe_view", "reshape")
_COPIES = ("clone", "_to_copy", "contiguous", "detach", "alias", "lift_fresh")
_MOVES = (
    *("permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "slice", "select", "split", "split_with_sizes"),
    *("unbind", "cat", "stack", "roll", "flip", "unfold", "chunk"),
)
_REDUCTIONS = ("amax", "max", "mean")
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")


def of_image(images: Tensor) -> Tensor:
    """The places of images ``(B, C, H, W)``: all channels of a pixel are at it."""
    height, width = images.shape[-2:]
    return torch.arange(height * width, dtype=torch.int32).view(1, 1, height, width).expand(images.shape)


def after(
    operation: OpOverload, arguments: Sequence[Any], known: dict[int, Tensor | None], outputs: Sequence[Tensor]
) -> list[Tensor | None]:
    """The places of an operation's outputs; None where they cannot be told.

    Parameters
    ----------
    operation, arguments
        The operation, and its arguments in order.
    known
        Places of those of them that have some, by ``id``; None where an argument came from the image and lost its own.
    outputs
        What it gave.
    """
    moved = _moved(operation, arguments, known, outputs)
    name = operation.overloadpacket.__name__
    elementwise = name not in (*_MOVES, *_PRODUCTS)
    found: list[Tensor | None] = []
    for places, output in zip(moved, outputs, strict=True):
        fits = places is not None and places.shape == output.shape
        alike = (each for each in known.values() if elementwise and each is not None and each.shape == output.shape)
        found.append(places if fits else next(alike, None))
    return found


def after_layer(known: Tensor, axis: int, output: Tensor) -> Tensor | None:
    """The places of what a layer gives that mixes the channels of each cell."""
    places = known.narrow(axis, 0, 1)
    fits = places.ndim == output.ndim and all(a in (1, b) for a, b in zip(places.shape, output.shape, strict=True))
    return places.expand(output.shape) if fits else None


def in_rows(places: Tensor, layout: Layout, grid: Size) -> bool | None:
    """Whether cells are in the order of rows, and other tokens where a layout has them; None if it does not fit.

    Parameters
    ----------
    places
        Of an activation of one channel.
    """
    try:
        prefix, patches, suffix = layout.split(places)
        cells = layout.to_map(patches, 1, grid)[0].flatten()
    except (LayoutError, RuntimeError):
        return None
    others = [part for part in (prefix, suffix) if part is not None]
    rows = bool((cells[1:] >= cells[:-1]).all()) and bool((cells > NOWHERE).all())
    return rows and all(bool((part == NOWHERE).all()) for part in others)


def _moved(
    operation: OpOverload, arguments: Sequence[Any], known: dict[int, Tensor | None], outputs: Sequence[Tensor]
) -> list[Tensor | None]:
    """Places after an operation that moves, repeats, merges or leaves out elements."""
    name = operation.overloadpacket.__name__
    nothing: list[Tensor | None] = [None] * len(outputs)
    first = known.get(id(arguments[0])) if arguments else None
    if name in _MOVES:
        if any(each is None for each in known.values()):
            return nothing
        results = operation(*(_with_places(each, known) for each in arguments))
        return [*results] if isinstance(results, list | tuple) else [results]
    if name in _PRODUCTS:
        left, right = (known.get(id(each)) for each in arguments[-2:])
        return [_multiplied(left, right, outputs[0])]
    if first is None:
        return nothing
    if name in _RESHAPES:
        return [_reshaped(first, outputs[0])]
    if name in _COPIES:
        return [first]
    if name == "constant_pad_nd":
        return [torch.constant_pad_nd(first, arguments[1], NOWHERE)]
    if name == "im2col":
        return [functional.unfold(first.double() + 1, *arguments[1:]).int() - 1]
    if name in _REDUCTIONS and len(arguments) > 1 and not isinstance(arguments[1], Tensor):
        return [first.amin(arguments[1], keepdim=len(arguments) > 2 and bool(arguments[2])), *nothing[1:]]
    if (name == "convolution" or "pool2d" in name or name.startswith("upsample_")) and outputs[0].ndim == 4:
        return [_thinned(first, outputs[0]), *nothing[1:]]
    return nothing


def _reshaped(places: Tensor, output: Tensor) -> Tensor | None:
    try:
        return places.view(output.shape)
    except RuntimeError:  # there is no view, and a copy takes memory
        return places.reshape(output.shape) if places.numel() <= LARGEST else None


def _with_places(argument: Any, known: dict[int, Tensor | None]) -> Any:
    if isinstance(argument, Tensor):
        places = known.get(id(argument))
        nowhere = torch.full((), NOWHERE, dtype=torch.int32).expand(argument.shape)
        return nowhere if places is None else places
    return [_with_places(each, known) for each in argument] if isinstance(argument, list | tuple) else argument


def _thinned(places: Tensor, output: Tensor) -> Tensor:
    """One in so many places along rows and columns ``(B, C, H, W)``: those amid even parts, without padding."""
    for axis in (2, 3):
        inside = (places[0, 0] > NOWHERE).any(dim=3 - axis).nonzero().flatten()
        count = output.shape[axis]
        middles = (torch.arange(count) * 2 + 1) * len(inside) // (2 * count)
        places = places.index_select(axis, inside[middles] if len(inside) else middles * 0)
    return places[:, :1].expand(output.shape)


def _multiplied(left: Tensor | None, right: Tensor | None, output: Tensor) -> Tensor | None:
    """Places of a product of matrices: of the left one's rows or, if those are channels, of the right one's columns."""
    if left is not None:
        rows = left[..., :1]
        if right is None or bool((rows != rows[..., :1, :]).any()):
            return rows.expand(output.shape)
    return None if right is None else right[..., :1, :].expand(output.shape)
