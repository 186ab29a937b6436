"""Whether a dataset's images are what a model takes: found out before the first of them is ranked."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_vit.errors import CaptumViTError, DatasetError, ImageSizeError
from captum_vit.probes.adapted import AdaptedModel

# Times as far from 0 as normalized pixels are: far more than augmentation makes of them, and less than 255 is.
_FAR = 20


class Fit:
    """Looks at images before a model gets them.

    Parameters
    ----------
    vit
        The model.
    """

    def __init__(self, vit: AdaptedModel) -> None:
        self._vit = vit
        self._expected: tuple[int, ...] = (vit.channels, *vit.preprocessing.size)
        self._taken: set[tuple[int, ...]] = {self._expected}
        self._values_are_checked = False

    def check(self, images: Tensor) -> None:
        """Make sure that the model takes images ``(B, 3, H, W)``: by their shape, and the first by their values.

        Of an unusual shape, one image is passed through the model as far as its first site; models differ in what
        sizes they take, and know best themselves.

        Raises
        ------
        DatasetError
            It takes others.
        """
        if not self._values_are_checked and images.device.type == "cpu":
            self._check_values(images)
            self._values_are_checked = True
        shape = tuple(images.shape[1:])
        if shape not in self._taken:
            self._try(images[:1], shape)
            self._taken.add(shape)

    def _check_values(self, images: Tensor) -> None:
        seen = self._vit.preprocessing
        usual = max(max(mean, 1 - mean) / std for mean, std in zip(seen.mean, seen.std, strict=True))
        largest = float(images.detach().abs().amax())
        if largest > _FAR * usual:
            raise DatasetError(
                f"the dataset gives images with values up to {largest:g}, and normalized ones go up to about "
                f"{usual:.2g}; give vit.preprocessing.normalize(pixels), of pixels in [0, 1]"
            )

    @torch.no_grad()
    def _try(self, image: Tensor, shape: tuple[int, ...]) -> None:
        vit = self._vit
        try:
            with vit.until(vit.sites[0].name):
                vit(image.to(vit.device, vit.dtype))
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            if isinstance(error, CaptumViTError) and not isinstance(error, ImageSizeError):
                raise
            last = shape[-1] == self._expected[0] != shape[0]
            hint = "put the channels first: images.movedim(-1, -3)" if last else "resize or crop them"
            raise DatasetError(
                f"the dataset gives images of shape {shape}, and {vit.model_name} takes {self._expected}; {hint}"
            ) from error
