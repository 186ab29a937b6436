"""The photos of a piece of work as a model sees them, in batches, each file read once and known by its checksum."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captum_vit.atlas.images import Entry, read_bytes
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import decode_rgb
from captum_vit.errors import AtlasError, ImageError
from captum_vit.probes.adapted import AdaptedModel


@dataclass(frozen=True)
class PhotoBatch:
    """Some photos.

    Attributes
    ----------
    pixels
        What the model sees of each, in [0, 1], ``(B, 3, H, W)``; None where none could be read.
    numbers
        Their numbers among the photos that were asked for.
    sources
        Name and SHA-256 of each.
    skipped
        Why the others could not be read, one message each.
    """

    pixels: Tensor | None
    numbers: list[int]
    sources: list[tuple[str, str]]
    skipped: list[str]


class PhotoReader:
    """Reads photos for a model.

    Parameters
    ----------
    vit
        The adapted model.
    places
        Folders and archives that photos are in.
    """

    def __init__(self, vit: AdaptedModel, places: Sequence[Path]) -> None:
        self._crop = eval_crop(vit)
        self._places = tuple(places)
        # Processes that read beside the one that computes: for an accelerator, which would wait otherwise.
        forked = vit.device.type != "cpu" and sys.platform == "linux"
        self._workers = min(8, len(os.sched_getaffinity(0))) if forked else 0

    def batches(self, entries: Sequence[Entry], size: int) -> Iterator[PhotoBatch]:
        """The photos, in order; what is no photo is skipped.

        Raises
        ------
        AtlasError
            A photo is not there any more.
        OSError
            A photo is there, and cannot be read.
        """
        loader = DataLoader(
            _Photos(entries, self._places, self._crop),
            batch_size=size,
            collate_fn=_together,
            num_workers=self._workers,
            multiprocessing_context="fork" if self._workers else None,
            pin_memory=bool(self._workers),
            generator=torch.Generator(),
        )
        yield from loader


# Number, pixels or why there are none, name, checksum.
_Item = tuple[int, Tensor | str, str, str]


class _Photos(Dataset[_Item]):
    def __init__(self, entries: Sequence[Entry], places: Sequence[Path], crop: Callable[[Image.Image], Tensor]) -> None:
        self._entries, self._places, self._crop = entries, places, crop

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> _Item:
        entry = self._entries[number]
        content = read_bytes(self._places, entry)
        sha256 = hashlib.sha256(content).hexdigest()
        try:
            return number, self._crop(decode_rgb(content, entry.name)), entry.name, sha256
        except ImageError as error:
            return number, str(error), entry.name, sha256


def _together(items: list[_Item]) -> PhotoBatch:
    read = [(number, pixels, (name, sha256)) for number, pixels, name, sha256 in items if isinstance(pixels, Tensor)]
    return PhotoBatch(
        pixels=torch.stack([pixels for _, pixels, _ in read]) if read else None,
        numbers=[number for number, _, _ in read],
        sources=[source for _, _, source in read],
        skipped=[why for _, why, _, _ in items if isinstance(why, str)],
    )


def check_unchanged(expected: tuple[str, str], found: tuple[str, str]) -> None:
    """Make sure that a photo is the one that was ranked, by name and checksum.

    Raises
    ------
    AtlasError
        It is another.
    """
    if expected != found:
        raise AtlasError(
            f"{found[0]} is not the file any more that was ranked; put that one back, or make the atlas anew in "
            "another folder"
        )
