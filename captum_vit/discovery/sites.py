"""Which calls of a trace read the hidden activation of a feed-forward block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from captum_vit.discovery.trace import Call, Trace
from captum_vit.discovery.trail import BREAK


@dataclass(frozen=True)
class Pair:
    """A feed-forward block's linear layers.

    Attributes
    ----------
    first
        What gives the hidden activation: one call, or two if it is gated.
    second
        What reads it.
    """

    first: tuple[Call, ...]
    second: Call


def pairs(trace: Trace) -> list[Pair]:
    """The feed-forward blocks that a trace shows, in the order in which they ran.

    A block widens what it reads, for every place of the image by itself or by its neighbours, and narrows it again.
    No other layer reads the wide activation cell by cell: queries, keys and values have several readers, or attention.
    """
    found = list(_candidates(trace))
    read = Counter(number for call in trace.calls if call.cells > 1 for number in call.trail.layers)
    return [pair for numbers, pair in found if all(read[number] == 1 for number in numbers)]


def _candidates(trace: Trace) -> Iterator[tuple[frozenset[int], Pair]]:
    for second in trace.calls:
        numbers = second.trail.layers
        if BREAK in numbers or not 1 <= len(numbers) <= 2 or second.cells < 2:
            continue
        first = tuple(trace.calls[number] for number in sorted(numbers))
        read_the_same = len({call.trail.value for call in first}) == 1
        if read_the_same and _widens(first, second):
            yield numbers, Pair(first, second)


def _widens(first: tuple[Call, ...], second: Call) -> bool:
    hidden, before, after = second.width, first[0].width, second.gives
    given = sum(call.gives for call in first)
    if given > hidden:  # gated: half of what is given, so that a hidden activation may be as narrow as the block
        return given > before and hidden >= after
    return hidden > before and hidden > after
