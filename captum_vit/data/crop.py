"""From a photo to the part of it that a model sees, at the model's own input size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_vit.data.images import as_rgb, from_pixels
from captum_vit.probes.adapted import AdaptedModel


def eval_crop(vit: AdaptedModel) -> Callable[[Image.Image | NDArray[np.float32]], Tensor]:
    """The resizing and cropping of timm's evaluation transform for a model, without its normalization.

    Returns
    -------
    callable
        From an image of Pillow's, or pixels in [0, 1] of shape ``(height, width, 3)``, to the part of it that the model
        sees, ``(3, H, W)``, pixels in [0, 1]. What is no photo, or too long a strip, is an ImageError.
    """
    from timm.data import create_transform, resolve_model_data_config

    # In a wrapper, the configuration is the wrapped model's.
    configured = (module for module in vit.model.modules() if hasattr(module, "pretrained_cfg"))
    config = resolve_model_data_config(next(configured, vit.model))
    config["input_size"] = (3, *vit.preprocessing.size)
    transform = create_transform(**config, is_training=False, normalize=False)

    return partial(_crop, transform)


def _crop(transform: Callable[[Image.Image], Tensor], image: Image.Image | NDArray[np.float32]) -> Tensor:
    photo = as_rgb(image if isinstance(image, Image.Image) else from_pixels(image))
    return transform(photo).float() / 255
