"""A neuron's address, ``"blocks.5:42"``: parsed once, then a text that knows its parts."""

from __future__ import annotations

import re

from captum_vit.errors import AddressError

# Python refuses to read numbers of thousands of digits; no site has that many units.
_ADDRESS = re.compile(r"\s*(?P<site>\S.*?)\s*:\s*(?P<unit>\d{1,18})\s*", re.DOTALL)


class Address(str):
    """The address of a neuron: a text ``"site:unit"`` that has been checked, and is otherwise like any other.

    It names a site and a unit; whether a model has them, :meth:`AdaptedModel.canonical` tells.

    Raises
    ------
    AddressError
        The text is not a site name, a colon and a whole number.

    Examples
    --------
    >>> address = Address(" blocks.5 : 042 ")
    >>> address, address.site, address.unit
    ('blocks.5:42', 'blocks.5', 42)
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Address:
        """Parse a text; an address is returned as it is."""
        if isinstance(text, Address):
            return text
        match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise AddressError(f'"{text}" is not an address; write a site, a colon and a unit, such as "blocks.5:42"')
        return super().__new__(cls, f"{match['site']}:{int(match['unit'])}")

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; the same as ``Address(text)``."""
        return cls(text)

    @property
    def site(self) -> str:
        """Name of the neuron's site, as it was written: ``"blocks.5"``, or Lucent's ``"ffn_blocks_5"``."""
        return self.rpartition(":")[0]

    @property
    def unit(self) -> int:
        """Number of the neuron at its site."""
        return int(self.rpartition(":")[2])

    @property
    def file_name(self) -> str:
        """The address with what no file system takes replaced, without a suffix: ``"blocks.5-42"``."""
        return re.sub(r"[^\w.+-]+", "-", self).strip("-")
