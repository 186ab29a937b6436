"""Steps from pixels to cells, read off the convolutions, poolings and resamplings that a trace sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from captum_vit.probes.grid import PatchGrid, Size
from captum_vit.probes.steps import Resize

# Where these operations of ATen have kernel, stride, padding and whether they round up among their arguments.
_POOLS = {"max_pool2d_with_indices": (1, 2, 3, 5), "avg_pool2d": (1, 2, 3, 4)}


@dataclass(frozen=True)
class GridStep:
    """One step, as a grid of one step.

    Attributes
    ----------
    grid
        The grid that the step alone would give on pixels.
    by
        Path of the module that did it, ``""`` if the model's own ``forward`` did.
    """

    grid: PatchGrid
    by: str = field(default="", compare=False)


@dataclass(frozen=True)
class Padding:
    """What was put around a tensor just before an operation.

    Attributes
    ----------
    size
        Rows and columns before.
    left, top
        Cells at the beginning of columns and rows.
    """

    size: Size
    left: int
    top: int


def grid_of(steps: Iterable[GridStep]) -> PatchGrid:
    """The grid after all of the steps."""
    grid = PatchGrid()
    for step in steps:
        grid = PatchGrid((*grid.rows, *step.grid.rows), (*grid.columns, *step.grid.columns))
    return grid


def resamplings(steps: Iterable[GridStep]) -> int:
    """How many of the steps set the number of cells whatever it was."""
    return sum(isinstance(window, Resize) for step in steps for window in step.grid.rows)


def merge(factor: int, ceil: bool = True) -> tuple[GridStep, ...]:
    """Merging of ``factor`` × ``factor`` cells, two by two where that does it; a step that no convolution shows."""
    twos = factor.bit_length() - 1
    by_two = factor == 2**twos
    step = GridStep(PatchGrid().then(2, 2, ceil=ceil) if by_two else PatchGrid().then(factor, factor, ceil=ceil))
    return (step,) * (twos if by_two else 1)


def padding(arguments: Sequence[Any]) -> Padding | None:
    """What ``constant_pad_nd`` puts around rows and columns of ``(B, C, H, W)``."""
    tensor, pads = arguments[0], arguments[1]
    if tensor.ndim != 4 or len(pads) != 4:
        return None
    return Padding((tensor.shape[-2], tensor.shape[-1]), pads[0], pads[2])


def step_of(name: str, arguments: Sequence[Any], output: Tensor, padded: Padding | None, by: str) -> GridStep | None:
    """The step that an operation of ATen takes; None if cells stay where they are.

    Parameters
    ----------
    name
        Of the operation, ``"convolution"``.
    arguments
        Its arguments in order; the first is the tensor ``(B, C, H, W)``.
    output
        What it gave.
    padded
        What was put around the tensor before.
    by
        Path of the module in which it runs.
    """
    moves_cells = name == "convolution" or name in _POOLS or name.startswith("upsample_")
    if not moves_cells or arguments[0].ndim != 4:
        return None
    tensor = arguments[0]
    before: Size = padded.size if padded else (tensor.shape[-2], tensor.shape[-1])
    after: Size = (output.shape[-2], output.shape[-1])
    if name.startswith("upsample_"):
        return None if before == after else GridStep(PatchGrid().resized(after), by)
    if name == "convolution":
        _, weight, _, stride, pad, dilation, transposed, *_ = arguments
        if transposed:
            return None
        kernel = _pair([d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[-2:], strict=True)])
        ceil = False
    else:
        size, stride, pad, ceil = (_argument(arguments, place) for place in _POOLS[name])
        kernel, stride, pad = _pair(size), stride or size, pad or 0
    stride, pad = _pair(stride), _pair(pad)
    if stride == (1, 1) and before == after:
        return None
    if padded is None:
        return GridStep(PatchGrid().then(kernel, stride, pad, bool(ceil)), by)
    return GridStep(_padded(kernel, stride, pad, padded, after), by)


def _padded(kernel: Size, stride: Size, pad: Size, padded: Padding, after: Size) -> PatchGrid:
    """The grid of a step before which cells were put around by hand, which gave so many cells."""
    rounded_up = after == (-(-padded.size[0] // stride[0]), -(-padded.size[1] // stride[1]))
    if rounded_up and pad == (0, 0):
        return (
            PatchGrid().then(kernel, stride, ceil=True) if kernel == stride else PatchGrid().then_same(kernel, stride)
        )
    grid = PatchGrid().then(kernel, stride, (pad[0] + padded.top, pad[1] + padded.left))
    if grid(padded.size) == after:
        return grid
    return PatchGrid().then(kernel, stride, pad, ceil=True)  # at the end alone


def _argument(arguments: Sequence[Any], place: int) -> Any:
    return arguments[place] if place < len(arguments) else None


def _pair(value: Any) -> Size:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])
