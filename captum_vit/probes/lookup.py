"""What a name or an address means among a model's sites, and what to say where it means nothing."""

from __future__ import annotations

import difflib
import re

from captum_vit.checks import shortly
from captum_vit.errors import AddressError
from captum_vit.probes.address import Address
from captum_vit.probes.kinds import ALL, FEED_FORWARD, kind_named
from captum_vit.probes.site import Site


class Lookup:
    """The sites of a model by their names, and by Lucent's.

    Parameters
    ----------
    sites
        The sites, in the order of the forward pass.
    model_name
        What messages call the model.
    """

    def __init__(self, sites: tuple[Site, ...], model_name: str) -> None:
        self._sites = sites
        self._model_name = model_name
        self._by_name = {site.name: site for site in sites} | {site.layer: site for site in sites}

    def site(self, name: str) -> Site:
        """The site of a name.

        Raises
        ------
        AddressError
            There is no such site.
        """
        if isinstance(name, str) and name in self._by_name:
            return self._by_name[name]
        has = f"it has {self._all_in_words()}{self._or_kind(name)}"
        raise AddressError(f"no site {shortly(name)} in {self._model_name}; {self._or_close(name)}{has}")

    def address(self, address: str) -> tuple[Site, int]:
        """The site and unit of an address.

        Raises
        ------
        AddressError
            The address is malformed, or there is no such site or unit.
        """
        parsed = Address.parse(address)
        site, unit = self.site(parsed.site), parsed.unit
        if unit >= site.units:
            raise AddressError(f'no unit {unit} at "{site.name}" in {self._model_name}; it has 0 … {site.units - 1}')
        return site, unit

    def _all_in_words(self) -> str:
        names = [site.name for site in self._sites]
        return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} … {names[-1]}"

    def _or_close(self, name: object) -> str:
        """A question after a site that is spelled nearly so; not after one that differs in its number alone."""
        close = difflib.get_close_matches(str(name), self._by_name, n=1, cutoff=0.8)
        letters = {re.sub(r"\d", "", each) for each in (str(name), *close)}
        return f"did you mean {close[0]}? " if close and len(letters) > 1 else ""

    def _or_kind(self, name: object) -> str:
        """What to do about a site's name of a kind that was not asked for."""
        kind = kind_named(name) if isinstance(name, str) else FEED_FORWARD
        if kind in {FEED_FORWARD, *(site.kind for site in self._sites)}:
            return ""
        return f". Sites of that kind are had by adapt(model, sites={kind!r}), or with the others by sites={ALL!r}"
