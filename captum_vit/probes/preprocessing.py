"""What a model expects of its input: size, mean and standard deviation, as timm records them with the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from captum_vit.probes.grid import Size


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

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn pixels in [0, 1], shape ``(..., 3, H, W)``, into what the model expects."""
        mean, std = (torch.tensor(values).to(pixels)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def denormalize(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        mean, std = (torch.tensor(values).to(images)[:, None, None] for values in (self.mean, self.std))
        return images * std + mean
