"""What a model expects of its input: size, mean and standard deviation, as timm records them with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from captum_vit.checks import shortly
from captum_vit.errors import ArgumentError, ImageError
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
    assumed
        Whether mean and standard deviation are a guess, as nothing with the model tells them.
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    any_size: bool = False
    assumed: bool = field(default=False, compare=False)

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
        size = getattr(stem, "img_size", None) or config["input_size"][-2:]
        height, width = (size, size) if isinstance(size, int) else size
        any_size = not getattr(stem, "strict_img_size", True)
        return cls((height, width), tuple(config["mean"]), tuple(config["std"]), any_size)

    @classmethod
    def read(cls, described: object) -> Preprocessing:
        """Read what a library's own preprocessing does.

        Parameters
        ----------
        described
            A ``Preprocessing``, an image processor of Hugging Face's transformers, alone or in a processor of images
            and texts, or its configuration (a dictionary, as ``preprocessor_config.json`` holds it),
            ``weights.transforms()`` of torchvision, or a ``Compose`` of torchvision's transforms that ends in
            ``Normalize``, as open_clip gives it.

        Raises
        ------
        ArgumentError
            It is none of these, or does not tell size, mean and standard deviation.
        """
        if isinstance(described, cls):
            return described
        told = _Told(described)
        mean, std = told.channels("image_mean", "mean"), told.channels("image_std", "std")
        size = told.size()
        if told.first("do_normalize") is False:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if mean is None or std is None or size is None:
            raise ArgumentError(
                f"preprocessing is {shortly(described)}, which does not tell an image's size, mean and standard "
                "deviation; give captum_vit.Preprocessing(size=(224, 224), mean=(…), std=(…)), an image processor of "
                "transformers, or torchvision's transforms"
            )
        brightest = told.brightest()
        return cls(size, tuple(value / brightest for value in mean), tuple(value / brightest for value in std))

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


class _Told:
    """What a library's preprocessing says of itself, under whatever names."""

    def __init__(self, described: object) -> None:
        described = _part(described, "image_processor") or described
        steps = getattr(described, "transforms", None)
        # The last of several steps has the last word: a crop after a resizing.
        self._sources = [described, *(reversed(steps) if isinstance(steps, list | tuple) else ())]

    def first(self, *names: str) -> Any:
        """The value of the first of these names that anything has, and that is not None."""
        for source in self._sources:
            for name in names:
                value = _part(source, name)
                if value is not None and not callable(value):
                    return value
        return None

    def channels(self, *names: str) -> tuple[float, ...] | None:
        """The value of :meth:`first` for each channel; one number is that of all three."""
        value = self.first(*names)
        if isinstance(value, int | float):
            return (float(value),) * 3
        return None if value is None else tuple(map(float, value))

    def brightest(self) -> float:
        """What mean and standard deviation take the brightest value of a pixel to be, which mostly is 1."""
        factor = self.first("rescale_factor")
        return 255 * factor if factor and self.first("do_rescale") is not False else 1.0

    def size(self) -> Size | None:
        """(height, width) of the images that come out: what is cropped, or else what is resized to."""
        cropped = self.first("crop_size") if self.first("do_center_crop") is not False else None
        value = cropped if cropped is not None else self.first("size")
        if isinstance(value, int):
            return value, value
        if isinstance(value, list | tuple) and value:
            return value[0], value[-1]
        if value is None:
            return None
        sides = dict(value)
        height, width = sides.get("height"), sides.get("width")
        square = sides.get("shortest_edge") or sides.get("longest_edge")
        return (height, width) if height and width else (square, square) if square else None


def _part(source: object, name: str) -> Any:
    """What a mapping or an object has under a name; None if nothing."""
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
