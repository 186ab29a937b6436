"""Lucent objectives for what Lucent lacks on vision transformers; they add, scale and negate with Lucent's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_vit.errors import AddressError
from captum_vit.optvis import penalties

LayerOutput = Callable[[str], Tensor]


class Objective:
    """A loss of layers' outputs, the lower the better, in the form of Lucent's own objectives, which need not be there.

    ``objective + other``, ``objective - 0.1 * other`` and ``-objective`` are objectives again, whether the other is one
    of these, one of Lucent's, or a number.

    Parameters
    ----------
    objective_func
        From a function that gives a layer's output by its name to the loss.
    name, description
        What it is called, and with which arguments.
    """

    def __init__(self, objective_func: Callable[[LayerOutput], Any], name: str = "", description: str = "") -> None:
        self.objective_func = objective_func
        self.name = name
        self.description = description

    def __call__(self, layers: LayerOutput) -> Any:
        """The loss."""
        return self.objective_func(layers)

    def __add__(self, other: Objective | float) -> Objective:
        if isinstance(other, int | float):
            return Objective(lambda layers: self(layers) + other, self.name, self.description)
        return Objective(
            lambda layers: self(layers) + other(layers),
            f"{self.name}, {other.name}",
            f"Sum({self.description} +\n{other.description})",
        )

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, int | float):
            return NotImplemented
        return Objective(lambda layers: factor * self(layers), self.name, self.description)

    def __neg__(self) -> Objective:
        return -1 * self

    def __sub__(self, other: Objective | float) -> Objective:
        return self + (-1 * other)

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1 / divisor)

    __radd__ = __add__
    __rmul__ = __mul__


def patch(site: str, unit: int, row: int, column: int, batch: int | None = None) -> Objective:
    """One neuron at one patch; Lucent's ``neuron`` counts the other way round (x, y).

    Parameters
    ----------
    site
        Site name (``"blocks.5"``) or Lucent's layer name (``"ffn_blocks_5"``).
    unit, row, column
        The neuron and its patch, row 0 at the top of the image.
    batch
        Index of the one image to look at; all when not given.

    Raises
    ------
    AddressError
        At the first step, if the patch lies outside the grid.
    """

    def loss(layers: LayerOutput) -> Tensor:
        patch_map = layers(_layer("ffn", site))[_images(batch), unit]
        rows, columns = patch_map.shape[1:]
        if not (0 <= row < rows and 0 <= column < columns):
            raise AddressError(f'no patch ({row}, {column}) at "{site}"; its grid here is {rows}x{columns}')
        return -patch_map[:, row, column].mean()

    return Objective(loss, "patch", f"Patch [{site}, {unit}, {row}, {column}]")


def prefix_token(site: str, unit: int, token: int = 0, batch: int | None = None) -> Objective:
    """One neuron at a prefix token: 0 is the class token; distillation and register tokens follow.

    Parameters
    ----------
    site
        Site name (``"blocks.5"``) or Lucent's layer name (``"prefix_blocks_5"``).
    unit
        The neuron.
    token
        Number of the prefix token.
    batch
        Index of the one image to look at; all when not given.

    Raises
    ------
    AddressError
        At the first step, if the site has no such prefix token.
    """

    def loss(layers: LayerOutput) -> Tensor:
        tokens = layers(_layer("prefix", site))[_images(batch), unit, 0]
        if not 0 <= token < tokens.shape[1]:
            raise AddressError(f'no prefix token {token} at "{site}"; it has {tokens.shape[1]}')
        return -tokens[:, token].mean()

    return Objective(loss, "prefix_token", f"Prefix_Token [{site}, {unit}, {token}]")


def total_variation(batch: int | None = None) -> Objective:
    """Roughness of the image: add it with a positive weight to render smoother images.

    For each of four neighbour directions (right, down and both diagonals) the L2 norm of the differences, averaged
    over images and channels; summed over the directions. This is the regularizer of Ghiasi et al. (2022, arXiv
    2212.06727) as their published code has it, there with weights of 0.00005 to 0.0005.

    Parameters
    ----------
    batch
        Index of the one image to look at; all when not given.
    """

    def loss(layers: LayerOutput) -> Tensor:
        return penalties.total_variation(layers("input")[_images(batch)])

    return Objective(loss, "total_variation", "Total_Variation []")


def _layer(kind: str, site: str) -> str:
    """Lucent's name of a site's probe, from the site's name or from that name itself."""
    return site if site.startswith(f"{kind}_") else f"{kind}_{site.replace('.', '_')}"


def _images(batch: int | None) -> slice:
    """The images of the batch that an objective looks at."""
    return slice(None) if batch is None else slice(batch, batch + 1)
