"""Crops with the teacher's features for them, kept on disk so that training never waits for the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

from captum_vit.models.training.photos import Photo, central_square, random_crops
from captum_vit.models.training.teacher import load_teacher
from captum_vit.storage.files import replacing

TEACHER_SIZE = 112  # pixels: 8 x 8 patches of 14, the student's grid at 64 pixels and patches of 8
STUDENT_SIZE = 64
_BATCH = 64


@dataclass(frozen=True)
class Crops:
    """Crops, what the teacher says of them, and the photo each is from.

    Attributes
    ----------
    pixels
        RGB, uint8, shape ``(N, 3, 64, 64)``.
    features
        The teacher's normalized last tokens, class token first then 8 x 8 patches, float16, shape ``(N, 65, 384)``.
    photo
        Index of the photo in the list the crops were made from, shape ``(N,)``.
    """

    pixels: Tensor
    features: Tensor
    photo: Tensor


def normalize(pixels: Tensor) -> Tensor:
    """Turn RGB pixels, uint8 or float in [0, 255], into a network's input with ImageNet's mean and std."""
    mean = torch.tensor(IMAGENET_DEFAULT_MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_DEFAULT_STD, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def mirror(features: Tensor) -> Tensor:
    """Mirror tokens ``(N, 65, C)`` left to right: the class token stays, the patches change columns."""
    patches = features[:, 1:].unflatten(1, (8, 8)).flip(2).flatten(1, 2)
    return torch.cat([features[:, :1], patches], dim=1)


def autocast(device: str, dtype: torch.dtype) -> torch.autocast:
    """Compute in ``dtype``; in float32 that is to leave everything as it is."""
    return torch.autocast(device, dtype, enabled=dtype is not torch.float32)


@torch.inference_mode()
def teacher_features(teacher: nn.Module, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Run the teacher on crops of 112 x 112 pixels, computing in ``dtype``; returns float16 tokens ``(N, 65, 384)``."""
    batches = []
    for batch in pixels.split(_BATCH):
        with autocast(pixels.device.type, dtype):
            tokens = teacher.forward_features(normalize(batch))  # type: ignore[operator]
        batches.append(tokens.half())
    return torch.cat(batches)


def cached_crops(photos: Sequence[Photo], seed: int, folder: Path, dtype: torch.dtype) -> Crops:
    """Make every photo's random crops with the teacher's features, or read them if they were made before.

    Parameters
    ----------
    photos
        The photos to cut, each into as many crops as it says.
    seed
        Seed of the crops; each photo has its own random stream.
    folder
        Where the cache is kept: one file per photo, from which an interrupted run goes on, and one of them all. That is
        mapped into memory, so that runs beside each other share it.
    dtype
        What the teacher computes in.
    """
    names = "\n".join(f"{photo.name} {photo.crops} {photo.smallest}" for photo in photos)
    together = folder / f"{sha256(names.encode()).hexdigest()[:16]}-{seed}.pt"
    if not together.exists():
        parts = list(_photo_by_photo(photos, seed, folder, dtype))
        index = torch.arange(len(photos)).repeat_interleave(torch.tensor([photo.crops for photo in photos]))
        pixels, features = (torch.cat(column) for column in zip(*parts, strict=True))
        with replacing(together) as partial:
            torch.save((pixels, features, index), partial)
    return Crops(*torch.load(together, mmap=True))


def _photo_by_photo(
    photos: Sequence[Photo], seed: int, folder: Path, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor]]:
    folder.mkdir(parents=True, exist_ok=True)
    teacher: nn.Module | None = None
    for photo in track(photos, f"random crops of {len(photos)} photos"):
        file = folder / f"{photo.name}-{photo.crops}-{seed}.pt"
        if not file.exists():
            teacher = teacher or load_teacher()
            rng = np.random.default_rng([seed, crc32(photo.name.encode())])
            made = _with_features(teacher, random_crops(photo, photo.crops, TEACHER_SIZE, rng), dtype)
            with replacing(file) as partial:
                torch.save(made, partial)
        yield torch.load(file)


def squares(photos: Sequence[Photo], dtype: torch.dtype) -> Crops:
    """Cut the square in the middle of every photo, with the teacher's features for it."""
    cut = np.concatenate([central_square(photo, TEACHER_SIZE) for photo in photos])
    return Crops(*_with_features(load_teacher(), cut, dtype), torch.arange(len(photos)))


def _with_features(teacher: nn.Module, crops: npt.NDArray[np.uint8], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Give crops as the student sees them, and the teacher's features for them at its own size."""
    large = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()
    small = functional.interpolate(large.float(), (STUDENT_SIZE, STUDENT_SIZE), mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).byte(), teacher_features(teacher, large, dtype)
