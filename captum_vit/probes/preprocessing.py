"""What a model expects of its input: size, mean and standard deviation, as timm records them with the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from captum_vit.errors import ImageError
from captum_vit.probes.grid import Size

if TYPE_CHECKING:
    from captum_vit.probes.door import Colours


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects.

    Attributes
    ----------
    size
        Input size in pixels, (height, width).
    mean, std
        Mean and standard deviation of pixels in [0, 1], per channel.
    any_size
        Whether the model takes images of other sizes as they are.
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    any_size: bool = False

    @classmethod
    def of(cls, model: nn.Module, stem: nn.Module | None = None) -> Preprocessing:
        """Read a model's own; without a timm configuration, timm's defaults (224 pixels, ImageNet's mean and std).

        Parameters
        ----------
        model
            The model.
        stem
            The module that receives the image. A model that was built for another size than its weights' says so
            there only.
        """
        config = resolve_model_data_config(model, use_test_size=False)
        height, width = getattr(stem, "img_size", None) or config["input_size"][-2:]
        any_size = not getattr(stem, "strict_img_size", True)
        return cls((height, width), tuple(config["mean"]), tuple(config["std"]), any_size)

    def behind(self, colours: Colours) -> Preprocessing:
        """What a wrapper expects that changes colours by ``scale * x + offset`` before the model gets them."""
        channels = list(zip(self.mean, self.std, colours.scale, colours.offset, strict=True))
        return replace(
            self,
            mean=tuple(mean + std * offset for mean, std, _, offset in channels),
            std=tuple(std * scale for _, std, scale, _ in channels),
        )

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn pixels in [0, 1], shape ``(..., 3, H, W)``, into what the model expects.

        Raises
        ------
        ImageError
            The pixels are whole numbers, not laid out with channels first, or of another number of channels.
        """
        if not pixels.is_floating_point():
            kind = str(pixels.dtype).removeprefix("torch.")
            raise ImageError(
                f"pixels are {kind}, and should be floating point in [0, 1]; divide them first, such as "
                "images.float() / 255"
            )
        if pixels.ndim < 3 or pixels.shape[-3] != len(self.mean):
            raise ImageError(
                f"pixels of shape {tuple(pixels.shape)} are not images ({len(self.mean)}, H, W), or batches of such"
                + ("; put the channels first: images.movedim(-1, -3)" if pixels.shape[-1] == len(self.mean) else "")
            )
        mean, std = (torch.tensor(values).to(pixels)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def denormalize(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        mean, std = (torch.tensor(values).to(images)[:, None, None] for values in (self.mean, self.std))
        return images * std + mean
