"""Tests for those who write adapters: that each cell looks where its grid says, and that the model stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_vit.errors import OrderError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.adapter import Adapter
from captum_vit.probes.adapting import adapt
from captum_vit.probes.grid import Size
from captum_vit.probes.kinds import FEED_FORWARD
from captum_vit.probes.output import tensors
from captum_vit.probes.site import Site
from captum_vit.probes.twin import frozen_twin
from captum_vit.progress import progress_bar

# How far from its place, in cells, a cell may be seen to look, and how many cells may look farther. In a wrong order
# (2 × 2 blocks in the place of rows, tokens shifted by one) at least half of them are a whole cell off or more. Right
# ones were 0.0 to 0.35 off in the median of all kinds of model; behind a max pooling, which takes one pixel of several,
# up to one in eight were more than 0.5.
_TOLERANCE = 0.75
_EXCUSED = 0.1
# The part of a cell's way across the image that its gradient has to follow: borders pull it inwards.
_LEAST_SLOPE = 0.1
# Of the most that a cell sees anywhere, what is too little to count.
_TRACE = 0.1
# Images at once; the number of cells beyond which their mean gradient tells what they share; looks at few cells.
_BATCH, _FEW, _ROUNDS = 8, 8, 4


@dataclass(frozen=True)
class SiteOrder:
    """Where the cells of one site were seen to look.

    Attributes
    ----------
    name
        Of the site.
    error
        Median distance between where a cell looks and where its grid says, in cells.
    misplaced
        Share of the cells that look elsewhere.
    """

    name: str
    error: float
    misplaced: float

    @property
    def right(self) -> bool:
        """Whether the cells are in the order that the grid says."""
        return self.misplaced <= _EXCUSED

    def __str__(self) -> str:
        verdict = "each cell looks where its grid says" if self.right else "cells look elsewhere than their grid says"
        return f"{self.name}: {verdict} ({self.error:.2f} cells off, {self.misplaced:.0%} misplaced)"


def measure_order(
    vit: AdaptedModel, image_size: Size | None = None, cells: int = 32, seed: int = 0, progress: bool = False
) -> tuple[SiteOrder, ...]:
    """Measure where the cells of each site look, by gradients with attention silenced.

    Tokens in another order than the grid's (mask units, merged 2 × 2 blocks, columns first) have the right shape and
    the right number, and every map of them is wrong. What tells them apart is the gradient of a cell with respect to
    the image: without attention, which mixes tokens, its energy lies around the pixels that the cell looks at.

    Parameters
    ----------
    vit
        An adapted model with values, which may be random.
    image_size
        (height, width) in pixels of the image to take, better not square; the model's own when not given.
    cells
        How many cells of each site to look at, chosen at random.
    seed
        Of that choice and of the image.
    progress
        Whether to show a bar, and to say how long it takes where that is more than a minute.

    Returns
    -------
    tuple of SiteOrder
        One for each site, in their order. A site of one cell is always right.
    """
    size = vit.preprocessing.size if image_size is None else image_size
    draw = torch.Generator().manual_seed(seed)
    chosen = {site.name: _choose(site.grid(size), cells, draw) for site in vit.sites}
    energy = {site.name: torch.zeros(len(chosen[site.name]), *size, dtype=torch.double) for site in vit.sites}
    twin = frozen_twin(vit)
    # One look at many cells tells as much as several at few.
    few = {name: at for name, at in chosen.items() if len(at) < cells}
    rounds = [each for each in (chosen, *(_ROUNDS - 1) * [few]) if each]
    passes = sum(len(_batches(each)) for each in rounds)
    with progress_bar("Testing the order of cells", passes, disable=not progress, foretold=progress) as advance:
        for asked in rounds:
            image = torch.rand(1, vit.channels, *size, generator=draw)
            directions = {name: torch.randn(vit.site(name).units, generator=draw) for name in asked}
            for name, seen in _gradients(twin, image, asked, directions, advance).items():
                energy[name] += seen.square().sum(dim=1)
    return tuple(_order_of(site, chosen[site.name], energy[site.name].numpy(), size) for site in vit.sites)


def check_order(vit: AdaptedModel, image_size: Size | None = None, cells: int = 32, seed: int = 0) -> None:
    """Make sure that the cells of each site look where the grid says; see :func:`measure_order`.

    Raises
    ------
    OrderError
        At some sites they do not.
    """
    wrong = [str(order) for order in measure_order(vit, image_size, cells, seed) if not order.right]
    if wrong:
        raise OrderError(
            f"{len(wrong)} of {len(vit.sites)} sites of {vit.model_name} are in another order: {'; '.join(wrong[:3])}; "
            "the layout or the grid of the adapter is not the model's"
        )


def check_adapter(
    model: nn.Module,
    adapter: Adapter | None = None,
    image_size: Size | None = None,
    sites: str | Iterable[str] = FEED_FORWARD,
    cells: int = 32,
) -> None:
    """Make sure that an adapter serves a model rightly: what a package with an adapter should test.

    Outputs are the model's own bit for bit, whether probes are watched or not; every site is reached, with the map that
    its grid says, under a name that the model has a module for; each cell looks where the grid says; and nothing of it
    is left when the adapted model is restored.

    Parameters
    ----------
    model
        A model of the architecture with values, in eval mode; small and random will do.
    adapter
        The adapter; the installed one that serves it when not given.
    image_size
        (height, width) in pixels, better not square; the model's own when not given.
    sites
        Which kinds of sites to look at, as :func:`captum_vit.adapt` takes them; ``"all"`` if the adapter tells where
        attention is.
    cells
        How many cells of each site to look at, chosen at random.

    Raises
    ------
    OrderError
        Cells look elsewhere than their grid says.
    AssertionError
        Anything else is not as it should be.
    """
    hooks = _hooks_of(model)
    with adapt(model, adapter=adapter, sites=sites) as vit:
        size = vit.preprocessing.size if image_size is None else image_size
        images = torch.randn(2, vit.channels, *size, generator=torch.Generator().manual_seed(0))
        images = images.to(vit.device, vit.dtype)
        vit.restore()
        with torch.no_grad():
            expected = [*tensors(model(images))]
    with adapt(model, adapter=adapter, sites=sites) as vit, torch.no_grad():
        assert _same([*tensors(vit(images))], expected), f"{vit.model_name} gives other outputs when it is adapted"
        shapes: dict[str, tuple[int, ...]] = {}
        for site in vit.sites:
            vit.probe(site.name).register_forward_hook(_Shape(shapes, site.name))
        assert _same([*tensors(vit(images))], expected), f"{vit.model_name} gives other outputs when probes are watched"
        for site in vit.sites:
            assert site.name in shapes, f"{site.name} is not reached"
            assert shapes[site.name] == (2, site.units, *site.grid(size)), f"{site.name} has maps {shapes[site.name]}"
            vit.model.get_submodule(site.block)
    with adapt(model, adapter=adapter, sites=sites) as vit:
        check_order(vit, size, cells)
    assert _hooks_of(model) == hooks, f"{type(model).__name__} has hooks left after restore()"


class _Silenced(TorchFunctionMode):
    """Context in which attention gives zeros and convolutions look at the middle of their windows: nothing mixes.

    Kernels are lopsided, random ones above all, so that a chain of them looks aside.
    """

    _ATTENTION = (torch.nn.functional.scaled_dot_product_attention,)
    _SOFTMAX = (torch.softmax, torch.Tensor.softmax, torch.nn.functional.softmax)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._ATTENTION:
            query, _, value = (*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs))[:3]
            return query.new_zeros(*query.shape[:-1], value.shape[-1])
        if func is torch.conv2d and len(args) > 1:
            args = (args[0], _middle_of(args[1]), *args[2:])
        result = func(*args, **kwargs)
        return torch.zeros_like(result) if func in self._SOFTMAX else result


def _middle_of(kernel: Tensor) -> Tensor:
    """A kernel ``(..., rows, columns)`` that has its middle alone: one entry, or the mean of two if there are two."""
    for axis in (-2, -1):
        length = kernel.shape[axis]
        first, count = (length - 1) // 2, 2 - length % 2
        middle = kernel.narrow(axis, first, count).mean(dim=axis, keepdim=True) / count
        before, after = (torch.zeros_like(middle) for _ in range(2))
        parts = [before] * first + [middle] * count + [after] * (length - first - count)
        kernel = torch.cat(parts, dim=axis)
    return kernel


class _Shape:
    """Hook that notes the shape of a probe's map."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], name: str) -> None:
        self.shapes = shapes
        self.name = name

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.shapes[self.name] = tuple(output.shape)


def _choose(grid: Size, cells: int, draw: torch.Generator) -> Tensor:
    """Rows and columns of some cells ``(N, 2)``: all that there are, or so many at random."""
    rows, columns = grid
    numbers = torch.randperm(rows * columns, generator=draw)[:cells].sort().values
    return torch.stack((numbers // columns, numbers % columns), dim=1)


def _batches(chosen: dict[str, Tensor]) -> range:
    """The first of the cells of each batch."""
    return range(0, max(len(cells) for cells in chosen.values()), _BATCH)


def _gradients(
    vit: AdaptedModel,
    image: Tensor,
    chosen: dict[str, Tensor],
    directions: dict[str, Tensor],
    advance: Callable[[int], None],
) -> dict[str, Tensor]:
    """Gradient of each chosen cell with respect to the image ``(N, C, H, W)``, by site, attention silenced."""
    found = _gradients_in(_Silenced(), vit, image, chosen, directions, advance)
    # Where a softmax weights branches, or is divided by its sum, nothing comes through without it.
    dark = {name: chosen[name] for name, seen in found.items() if not (seen.any() and seen.isfinite().all())}
    if dark:
        found |= _gradients_in(nullcontext(), vit, image, dark, directions, lambda _: None)
    # Each cell counts alike, however steep it is there, as the loudest would else be seen in the mean of all.
    found = {
        name: seen / seen.flatten(1).norm(dim=1).clamp_min(1e-300)[:, None, None, None] for name, seen in found.items()
    }
    # Whatever mixes all cells alike, such as a mean over them, looks everywhere for every cell; few do not tell it.
    return {name: seen - seen.mean(dim=0) if len(seen) > _FEW else seen for name, seen in found.items()}


def _gradients_in(
    mode: AbstractContextManager[Any],
    vit: AdaptedModel,
    image: Tensor,
    chosen: dict[str, Tensor],
    directions: dict[str, Tensor],
    advance: Callable[[int], None],
) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {name: [] for name in chosen}
    most = max(len(cells) for cells in chosen.values())
    for start in _batches(chosen):
        with torch.inference_mode(False), torch.enable_grad():
            images = image.to(vit.device, vit.dtype).expand(min(_BATCH, most - start), -1, -1, -1).clone()
            images.requires_grad_()
            with vit.collect(chosen) as maps, mode:
                vit(images)
            for name, patch_map in dict(maps).items():
                cells = chosen[name][start : start + _BATCH]
                at = patch_map[torch.arange(len(cells)), :, cells[:, 0], cells[:, 1]]
                looked = (at * directions[name].to(at)).sum()
                (gradient,) = torch.autograd.grad(looked, images, retain_graph=True, allow_unused=True)
                gradient = torch.zeros_like(images) if gradient is None else gradient
                found[name].append(gradient[: len(cells)].double().cpu())
        advance(1)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _order_of(site: Site, cells: Tensor, energy: NDArray[np.float64], size: Size) -> SiteOrder:
    """Compare where cells look, as the energy ``(N, H, W)`` of their gradients, with where the grid says they are."""
    # What was taken off as common to all leaves a trace of each cell in every other.
    energy = np.where(energy < _TRACE * energy.max(axis=(1, 2), keepdims=True), 0, energy)
    errors = np.zeros(len(cells))
    for axis, centres in enumerate(site.grid.centres(size)):
        if len(centres) == 1:
            continue
        along = energy.sum(axis=2 - axis)
        total = along.sum(axis=1)
        if not (total > 0).all():
            return SiteOrder(site.name, float("inf"), 1.0)
        seen = along @ (np.arange(size[axis]) + 0.5) / total
        expected = centres[cells[:, axis].numpy()]
        middle, spacing = size[axis] / 2, float(np.median(np.diff(centres)))
        errors = np.maximum(errors, _distance(seen - middle, expected - middle) / spacing)
    return SiteOrder(site.name, float(np.median(errors)), float((errors > _TOLERANCE).mean()))


def _distance(seen: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of places from those expected, all from the middle, towards which borders may pull them alike."""
    if not expected.any():
        return np.abs(seen)
    slope = float(expected @ seen / (expected @ expected))
    return np.full(len(seen), np.inf) if slope < _LEAST_SLOPE else np.asarray(np.abs(seen / slope - expected))


def _same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def _hooks_of(model: nn.Module) -> list[list[object]]:
    return [
        [*module._forward_pre_hooks.values(), *module._forward_hooks.values(), *module._backward_hooks.values()]
        for module in model.modules()
    ]
