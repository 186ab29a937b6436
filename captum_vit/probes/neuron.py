"""One neuron as a function of images, for every method that explains a function's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from captum_vit.errors import AddressError
from captum_vit.probes.site import Site

if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel


class Neuron(nn.Module):
    """Images to the activation of one neuron; made by :meth:`AdaptedModel.neuron`.

    A module, because Captum's methods that hook a model (DeepLift, guided backpropagation) ask for one. The forward
    pass stops at the neuron's site.
    """

    def __init__(self, vit: AdaptedModel, site: Site, unit: int, patch: tuple[int, int] | None) -> None:
        super().__init__()
        self.vit = vit
        self.site = site
        self.unit = unit
        self.patch = patch
        self.training = vit.training

    def forward(self, images: Tensor) -> Tensor:
        """Activation of the neuron.

        Parameters
        ----------
        images
            Shape ``(B, 3, H, W)``, as the model expects them.

        Returns
        -------
        Tensor
            Shape ``(B,)``: at one patch, or the mean over all patches.

        Raises
        ------
        AddressError
            The patch lies outside the grid that these images give.
        """
        with self.vit.until(self.site.name):
            patch_map: Tensor = self.vit(images)[:, self.unit]
        if self.patch is None:
            return patch_map.mean(dim=(1, 2))
        rows, columns = patch_map.shape[1:]
        row, column = self.patch
        if not (0 <= row < rows and 0 <= column < columns):
            raise AddressError(f'no patch {self.patch} at "{self.site.name}"; its grid here is {rows}x{columns}')
        return patch_map[:, row, column]

    def extra_repr(self) -> str:
        """The address, for ``print``."""
        return self.site.address(self.unit) + ("" if self.patch is None else f", patch={self.patch}")
