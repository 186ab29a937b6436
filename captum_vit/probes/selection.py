"""Choosing neurons in words: one unit of a site, a range, all of them, or some at random; of one site, or of each."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from captum_vit.errors import AddressError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.address import Address

EVERY = "all"

_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")
_RANDOM = re.compile(r"random:(\d{1,9})")


def select_neurons(vit: AdaptedModel, choices: Iterable[str], seed: int = 0) -> list[Address]:
    """Addresses of the chosen neurons, each once, in the order of the choices.

    Parameters
    ----------
    vit
        The adapted model.
    choices
        ``"SITE:UNIT"``, ``"SITE:0-63"`` (both ends included), ``"SITE:all"`` or ``"SITE:random:16"``; with ``all`` in
        the place of the site, of every site.
    seed
        Seed of the random choices; the same seed chooses the same units of a site.

    Raises
    ------
    AddressError
        A choice is none of these, or names what the model does not have.
    """
    chosen: dict[Address, None] = {}
    for choice in choices:
        name, _, units = choice.strip().partition(":")
        for site in vit.sites if name == EVERY else (vit.site(name),):
            if units.isdecimal():
                chosen[vit.canonical(f"{site.name}:{units}")] = None
            else:
                chosen |= dict.fromkeys(map(site.address, _units(choice, units, site.name, site.units, seed)))
    return list(chosen)


def _units(choice: str, units: str, site: str, count: int, seed: int) -> Iterable[int]:
    if units == "all":
        return range(count)
    if match := _RANGE.fullmatch(units):
        first, last = map(int, match.groups())
        if first > last or last >= count:
            raise AddressError(f'"{choice}" is not a range of units of {site}, which has 0 … {count - 1}')
        return range(first, last + 1)
    if match := _RANDOM.fullmatch(units):
        wanted = int(match[1])
        if not 0 < wanted <= count:
            raise AddressError(f'"{choice}" asks for {wanted} units of {site}, which has {count}')
        return sorted(random.Random(f"{seed} {site}").sample(range(count), wanted))
    raise AddressError(f'"{choice}" chooses no neuron; write SITE:UNIT, SITE:0-63, SITE:all or SITE:random:16')
