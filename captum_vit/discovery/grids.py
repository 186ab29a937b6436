"""How a hidden activation lies in memory and which grid it forms, told from its shapes at one or two image sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from captum_vit.discovery.places import in_rows
from captum_vit.discovery.steps import GridStep, grid_of, merge
from captum_vit.discovery.trace import BATCH, Call
from captum_vit.errors import GridError
from captum_vit.probes.grid import PatchGrid, Size
from captum_vit.probes.layout import TOKENS, Layout

# Detectors have a hundred tokens beside those of the image. More are likelier a wrong guess.
MOST_OTHERS = 128


@dataclass(frozen=True)
class Lie:
    """A grid and a layout that agree with all that was seen.

    Attributes
    ----------
    steps
        From pixels to cells.
    layout
        Pattern of the activation, as :func:`captum_vit.feed_forward` takes it.
    prefix_tokens, suffix_tokens
        Tokens before and after those of the image.
    doubts
        What was guessed.
    """

    steps: tuple[GridStep, ...]
    layout: str
    prefix_tokens: int
    suffix_tokens: int
    doubts: tuple[str, ...] = ()

    @property
    def grid(self) -> PatchGrid:
        """The grid."""
        return grid_of(self.steps)


def lie(seen: Sequence[tuple[Size, Call]]) -> Lie | None:
    """How an activation lies; None if no guess agrees with its shapes.

    Parameters
    ----------
    seen
        Image sizes, and the calls that read the activation at each.
    """
    told = seen[0][1].trail
    best: tuple[tuple[bool, int, int], Lie] | None = None
    # Where an image of one size is resized on its way, the other size shows it.
    guesses = chain.from_iterable(_guesses(steps) for steps in dict.fromkeys(call.trail.steps for _, call in seen))
    for order, steps in enumerate(guesses):
        fits = [_fit(call, _cells(grid_of(steps), size)) for size, call in seen]
        if fits[0] is None or any(fit != fits[0] for fit in fits):
            continue
        layout, others = fits[0]
        rank = (others != told.before + told.after, others, order)
        if best is None or rank < best[0]:
            best = rank, _described(steps, layout, others, *seen[0])
    return None if best is None else best[1]


def _guesses(steps: tuple[GridStep, ...]) -> Iterator[tuple[GridStep, ...]]:
    """The steps that were seen, then those with merges that no convolution shows."""
    yield steps
    for factor in (2, 4, 8, 16, 32):
        for ceil in (True, False):
            yield (*steps, *merge(factor, ceil))
    if not steps:  # patches that are cut out of the image by its shape
        for factor in range(3, 65):
            if factor & (factor - 1):
                yield merge(factor)


def _cells(grid: PatchGrid, size: Size) -> Size:
    try:
        return grid(size)
    except GridError:
        return (0, 0)


def _fit(call: Call, cells: Size) -> tuple[str, int] | None:
    """The pattern in which an input has that many rows and columns, and its number of other tokens."""
    (rows, columns), shape = cells, call.shape
    tokens = rows * columns
    if not tokens:
        return None
    patterns: dict[tuple[int, ...], str]
    axes: dict[tuple[int | None, ...], str]
    if call.channels_first:
        patterns = {(BATCH, call.width, rows, columns): "b c h w"}
        axes = {(BATCH, call.width, None): "b c (h w)"}
    else:
        patterns = {(BATCH, rows, columns, call.width): "b h w c", (BATCH * tokens, call.width): "(b h w) c"}
        axes = {(BATCH, None, call.width): TOKENS, (None, BATCH, call.width): "(h w) b c"}
    if shape in patterns:
        return patterns[shape], 0
    for axis, pattern in axes.items():
        if len(shape) == len(axis) and all(e in (None, s) for e, s in zip(axis, shape, strict=True)):
            others = shape[axis.index(None)] - tokens
            if 0 <= others <= MOST_OTHERS:
                return pattern, others
    return None


def _described(steps: tuple[GridStep, ...], layout: str, others: int, size: Size, call: Call) -> Lie:
    before, after = call.trail.before, call.trail.after
    guessed = others != before + after
    prefix, suffix = (others, 0) if guessed else (before, after)
    doubts = []
    if guessed and others:
        doubts.append(
            f"{others} tokens beside those of the image are taken for prefix tokens; none were seen to be put there"
        )
    if call.places is None:
        doubts.append("the cells could not be followed from the image, so their order was not seen")
    elif not in_rows(call.places, Layout(layout, (), prefix, suffix), grid_of(steps)(size)):
        doubts.append("the cells are in another order than that of rows, which the layout does not say")
    return Lie(steps, layout, prefix, suffix, tuple(doubts))
