"""Sites: the places in a model where neurons live, as an adapter describes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from captum_vit.probes.address import Address
from captum_vit.probes.grid import PatchGrid, Size


@dataclass(frozen=True)
class Site:
    """One place where neurons live: a feed-forward block (for CoaT's shared one: one scale of it).

    Adapters make sites with :func:`feed_forward`.

    Attributes
    ----------
    name
        The model's own module path of the block, ``"blocks.5"``.
    units
        Number of neurons: the channels that the block's second linear layer reads.
    prefix_tokens
        Class, distillation and register tokens before the patch tokens at this site.
    grid
        ``site.grid((height, width))`` is the shape of the patch map for an image of that many pixels.
    reaches_output
        False where the model never reads this block's patch tokens again (the last block under token pooling).
    reads
        The module whose input is the hidden activation.
    """

    name: str
    units: int
    prefix_tokens: int
    grid: PatchGrid = field(repr=False)
    reaches_output: bool = field(repr=False, default=True)
    reads: nn.Module = field(repr=False, compare=False, kw_only=True)

    @property
    def key(self) -> str:
        """The site's key in the ``ModuleDict`` of probes, which admits no dots: ``"blocks_5"``."""
        return self.name.replace(".", "_")

    @property
    def layer(self) -> str:
        """Lucent's name for the probe: ``"ffn_blocks_5"``."""
        return f"ffn_{self.key}"

    def address(self, unit: int) -> Address:
        """The address of one of the site's neurons; whether there is such a unit is not looked at."""
        return Address(f"{self.name}:{unit}")

    def to_image(self, patch_map: Tensor, image_size: Size) -> Tensor:
        """Resample a patch map ``(..., rows, columns)`` to pixels; see :meth:`PatchGrid.to_image`."""
        return self.grid.to_image(patch_map, image_size)

    def pool(self, pixel_attribution: Tensor) -> Tensor:
        """Average a pixel attribution ``(..., height, width)`` over each patch cell; see :meth:`PatchGrid.pool`."""
        return self.grid.pool(pixel_attribution)

    def feature_mask(self, image_size: Size) -> Tensor:
        """Captum's ``feature_mask``, one feature for each patch cell; see :meth:`PatchGrid.feature_mask`."""
        return self.grid.feature_mask(image_size)


def feed_forward(
    name: str,
    *,
    reads: nn.Module,
    grid: PatchGrid,
    prefix_tokens: int = 0,
    units: int | None = None,
    reaches_output: bool = True,
) -> Site:
    """Describe a feed-forward block as a site; what an adapter yields.

    Parameters
    ----------
    name
        The model's own module path of the block.
    reads
        The module that reads the hidden activation ``(B, prefix_tokens + rows * columns, units)``: the block's
        second linear layer. Several sites may share one module when their grids differ (CoaT).
    grid
        From pixels to this block's cells.
    prefix_tokens
        Number of tokens before the patch tokens.
    units
        Width of the hidden activation; ``reads.in_features`` when not given.
    reaches_output
        Whether the model's output depends on this block's patch tokens.

    Raises
    ------
    TypeError
        ``units`` is not given and ``reads`` has no ``in_features``.
    """
    if units is None:
        units = getattr(reads, "in_features", None)
        if not isinstance(units, int):
            raise TypeError(
                f'site "{name}": {type(reads).__name__} has no in_features; reads= should be the second linear layer '
                "of the block, or else tell the width of the hidden activation with units="
            )
    return Site(name, units, prefix_tokens, grid, reaches_output, reads=reads)
