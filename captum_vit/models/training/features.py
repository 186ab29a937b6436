"""Crops with the teacher's features for them, kept on disk so that training never waits for the teacher."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

from captum_vit.models.training.photos import Photo, random_crops
from captum_vit.models.training.teacher import load_teacher

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


def cached_crops(photos: list[Photo], count: int, seed: int, folder: Path, dtype: torch.dtype) -> Crops:
    """Make ``count`` crops of every photo with the teacher's features, or read them if they were made before.

    Parameters
    ----------
    photos
        The photos to cut.
    count
        Crops per photo.
    seed
        Seed of the crops; each photo has its own random stream.
    folder
        Where the cache is kept, one file per photo; an interrupted run goes on from what is there.
    dtype
        What the teacher computes in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    teacher: nn.Module | None = None
    parts = []
    for index, photo in enumerate(track(photos, f"{count} crops x {len(photos)} photos")):
        file = folder / f"{photo.name}-{count}-{seed}.pt"
        if not file.exists():
            teacher = teacher or load_teacher()
            crops = random_crops(photo, count, TEACHER_SIZE, np.random.default_rng([seed, index]))
            large = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()
            small = functional.interpolate(large.float(), (STUDENT_SIZE, STUDENT_SIZE), mode="bicubic", antialias=True)
            pixels = small.round().clamp(0, 255).byte()
            torch.save((pixels, teacher_features(teacher, large, dtype)), file.with_suffix(".part"))
            os.replace(file.with_suffix(".part"), file)
        pixels, features = torch.load(file)
        parts.append((pixels, features, torch.full((count,), index)))
    return Crops(*(torch.cat(column) for column in zip(*parts, strict=True)))
