"""Transforms of others inside a render: applied image by image, each in a random stream of its own."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captum_vit.optvis.randomness import StepDraws
from captum_vit.optvis.transforms import Foreign, Transform
from captum_vit.optvis.views import Views
from captum_vit.probes.grid import Size

_generators = threading.Lock()  # they belong to the whole process


@dataclass(frozen=True)
class ImageByImage:
    """Several foreign transforms in a row.

    Attributes
    ----------
    chain
        Functions from images ``(B, 3, H, W)`` to images of any size and number.
    """

    chain: tuple[Foreign, ...]

    shows_parts: ClassVar[bool] = False

    def apply(self, views: Views, draw: StepDraws) -> Views:
        """The views of each image through all of them.

        Where other sizes come out they are resized: to what the model sees of a larger canvas, or to what they were.
        """
        images = views.pixels.expand(-1, views.copies, -1, -1, -1)
        seen = [self._through(image, seed) for image, seed in zip(images, draw.seeds(), strict=True)]
        kept = all(tuple(image.shape[2:]) == views.size for image in seen)
        size = views.size if kept else views.input_size or views.size
        images = torch.stack([_resized(image, size) for image in seen])
        return replace(views.settled(), images=images, copies=images.shape[1])

    def _through(self, images: Tensor, seed: int) -> Tensor:
        with seeded_generators(seed, images.device):
            for transform in self.chain:
                images = transform(images)
        return images


def stages(transforms: Sequence[Transform | Foreign]) -> tuple[Transform | ImageByImage, ...]:
    """The transforms of a recipe with neighbours that are foreign put together."""
    found: list[Transform | ImageByImage] = []
    for transform in transforms:
        if isinstance(transform, Transform):
            found.append(transform)
        elif found and isinstance(found[-1], ImageByImage):
            found[-1] = ImageByImage((*found[-1].chain, transform))
        else:
            found.append(ImageByImage((transform,)))
    return tuple(found)


@contextmanager
def seeded_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Context in which the global generators of PyTorch, NumPy and Python start from a seed.

    Lucent's transforms draw from NumPy's, torchvision's from PyTorch's, others from Python's. Afterwards they are as if
    nothing had been drawn. One thread at a time is inside.
    """
    accelerator = None if device.type in ("cpu", "meta") else getattr(torch, device.type)
    with _generators:
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        there = accelerator.get_rng_state() if accelerator else None
        torch.manual_seed(seed % 2**63)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])
            if accelerator:
                accelerator.set_rng_state(there)


def _resized(images: Tensor, size: Size) -> Tensor:
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
