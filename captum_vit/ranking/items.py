"""What a dataset gives, as batches of images that know where each is from, and messages for what is none."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from captum_vit.errors import CaptumViTError, DatasetError
from captum_vit.storage.fingerprint import file_sha256, tensor_sha256
from captum_vit.storage.part import Part

# Where datasets of dictionaries have their images: Hugging Face's processors and datasets, torchvision's and others.
KEYS = ("pixel_values", "images", "image", "img", "inputs", "input", "x")

# What a damaged file makes of Pillow; SyntaxError is that of a PNG.
_FAULTS_OF_FILES = (
    OSError,
    SyntaxError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageBatch(NamedTuple):
    """Some images of a dataset.

    Attributes
    ----------
    images
        As the model expects them, shape ``(B, 3, H, W)``; None where all were skipped.
    positions
        Their positions in the dataset, ``B`` of them.
    sources
        Path and SHA-256 of each.
    skipped
        Why the others of this batch could not be read, one message each.
    """

    images: Tensor | None
    positions: list[int]
    sources: list[tuple[str, str]]
    skipped: list[str]


class Unreadable(NamedTuple):
    """Why an item could not be read."""

    message: str


class Numbered(Dataset[tuple[int, Any]]):
    """A dataset whose items come with their positions, and as a message where they cannot be read.

    One image, whatever is wrong with it, does not end the work of all. An error that is not a file's counts as the
    image's where the dataset gives others, and is raised where it gives none.

    Parameters
    ----------
    dataset
        The dataset.
    files
        Path of each image, if known.
    """

    def __init__(self, dataset: Any, files: Sequence[str] | None) -> None:
        self.dataset = dataset
        self.files = files
        self._has_given = False

    def __getitem__(self, position: int) -> tuple[int, Any]:
        try:
            item = self.dataset[position]
        except CaptumViTError as error:
            return position, Unreadable(str(error))
        except Exception as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            if not (isinstance(error, _FAULTS_OF_FILES) or self._gives_others()):
                raise
            name = f"image {position}" if self.files is None else self.files[position]
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            return position, Unreadable(f"{name} cannot be read: {reason}")
        self._has_given = True
        return position, item

    def _gives_others(self) -> bool:
        last = len(self.dataset) - 1
        for position in (0, last // 2, last):
            if not self._has_given:
                try:
                    self.dataset[position]
                except Exception:
                    continue
                self._has_given = True
        return self._has_given


class Collate:
    """Makes a batch of numbered items, the images by the loader's own function. An object, so that workers get it.

    Parameters
    ----------
    collate
        From items to a batch.
    files
        Path of each image of the dataset, if known.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], files: Sequence[str] | None) -> None:
        self.collate = collate
        self.files = files

    def __call__(self, items: list[tuple[int, Any]]) -> ImageBatch:
        """The batch.

        Raises
        ------
        DatasetError
            The items are no images, or the function does not keep each.
        """
        skipped = [item.message for _, item in items if isinstance(item, Unreadable)]
        readable = [(position, item) for position, item in items if not isinstance(item, Unreadable)]
        positions = [position for position, _ in readable]
        if not readable:
            return ImageBatch(None, [], [], skipped)
        images = together(self.collate, [item for _, item in readable])
        if len(images) != len(readable):
            raise DatasetError(
                f"the loader's collate_fn made {len(images)} images of {len(readable)}, so that they cannot be told "
                "apart; pass a loader that keeps each image"
            )
        files = None if self.files is None else [self.files[position] for position in positions]
        return ImageBatch(images, positions, sources_of(images, positions, files), skipped)


def together(collate: Callable[[list[Any]], Any], items: list[Any]) -> Tensor:
    """Images of a batch that a function makes of items.

    Raises
    ------
    DatasetError
        They are no images, or of different sizes.
    """
    if collate is default_collate:  # what else is in the items is not asked for, and need not fit together
        alone = [_pick(item, 3) for item in items]
        items = items if any(image is None for image in alone) else alone
    try:
        return images_of(collate(items))
    except (TypeError, RuntimeError) as error:  # default_collate's for what is no tensor, and for unequal sizes
        if isinstance(error, DatasetError | torch.cuda.OutOfMemoryError):
            raise
        shapes = {tuple(item.shape): None for item in items if hasattr(item, "shape")}
        found = f"their shapes are {' and '.join(map(str, list(shapes)[:3]))}" if len(shapes) > 1 else str(error)
        raise DatasetError(
            f"images cannot be put together in a batch ({found}); give the dataset a transform that makes each a "
            "tensor (3, H, W) of the same size"
        ) from error


def images_of(batch: Any) -> Tensor:
    """The images of a collated batch: all of it, its first part, its only part that is images, or those at a known key.

    Raises
    ------
    DatasetError
        There are none, or several parts that could be.
    """
    images = _pick(batch, 4)
    if images is not None:
        return torch.as_tensor(images)
    raise DatasetError(
        f"the dataset gives batches of {_in_words(batch)}; expected images, or images and labels, or images at one of "
        f"the keys {', '.join(KEYS)}, with images as the model expects them: floating point, normalized "
        "(vit.preprocessing.normalize), shape (B, 3, H, W)"
    )


def sources_of(images: Tensor, positions: Sequence[int], files: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Path and checksum of each image: of its file, or of its tensor where there is none."""
    if files is None:
        return [(f"index:{position}", tensor_sha256(image)) for position, image in zip(positions, images, strict=True)]
    on_disk = [Part.of(file).file for file in files]
    # Some datasets list names within an archive.
    return [
        (name, file_sha256(file) if Path(file).is_file() else tensor_sha256(image))
        for name, file, image in zip(files, on_disk, images, strict=True)
    ]


def _pick(found: Any, axes: int) -> Any:
    """What of an item or batch is its images, of so many axes; None if that cannot be told."""
    if isinstance(found, Mapping):
        return next((found[key] for key in KEYS if key in found and _is_images(found[key], axes)), None)
    if isinstance(found, tuple | list) and found:
        first = _pick(found[0], axes) if isinstance(found[0], Mapping) else found[0]
        if _is_images(first, axes):
            return first
        others = [each for each in found[1:] if _is_images(each, axes)]
        return others[0] if len(others) == 1 else None
    return found if _is_images(found, axes) else None


def _is_images(found: Any, axes: int) -> bool:
    if isinstance(found, np.ndarray):
        return found.ndim == axes and np.issubdtype(found.dtype, np.floating)
    return isinstance(found, Tensor) and found.ndim == axes and found.is_floating_point()


def _in_words(found: Any) -> str:
    if isinstance(found, Tensor | np.ndarray):
        return f"{found.dtype} of shape {tuple(found.shape)}"
    if isinstance(found, Mapping):
        return f"a dict with {'; '.join(f'{key}: {_in_words(value)}' for key, value in found.items())}"
    if isinstance(found, tuple | list):
        return f"({', '.join(map(_in_words, found[:4]))}{', …' if found[4:] else ''})"
    return f"a {type(found).__name__}"
