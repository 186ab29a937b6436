"""Kinds of sites: which there are, which are asked for, and of which kind a site's name tells that it is."""

from __future__ import annotations

from collections.abc import Iterable

from captum_vit.checks import shortly
from captum_vit.errors import ArgumentError

FEED_FORWARD, ATTENTION, OUTPUT = KINDS = ("feed_forward", "attention", "output")
ALL = "all"
# The sites of attention in a block, and what stands behind the block's name in theirs.
PARTS = ("query", "key", "value")


def kinds_of(sites: str | Iterable[str]) -> tuple[str, ...]:
    """The kinds that are asked for, in their order.

    Parameters
    ----------
    sites
        A kind, several, or ``"all"``.

    Raises
    ------
    ArgumentError
        There is no such kind, or none is asked for.
    """
    asked = [sites] if isinstance(sites, str) or not isinstance(sites, Iterable) else list(sites)
    for kind in asked:
        if kind not in (*KINDS, ALL):
            raise ArgumentError(f"sites={shortly(kind)} is no kind of site; there are {', '.join(KINDS)}, and {ALL}")
    if not asked:
        raise ArgumentError(f"sites= names no kind; there are {', '.join(KINDS)}, and {ALL}")
    return tuple(kind for kind in KINDS if kind in asked or ALL in asked)


def kind_named(site: str) -> str:
    """The kind of a site by the end of its name, ``"blocks.5.query"``, or of Lucent's, ``"attn_blocks_5_query"``."""
    last = site.replace("_", ".").rpartition(".")[2]
    if last in PARTS:
        return ATTENTION
    return OUTPUT if last == OUTPUT else FEED_FORWARD
