"""A dataset's images in batches that know where in the dataset each image is, and from which file."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    default_collate,
    get_worker_info,
)

from captum_vit.data.dataset import ImageFiles, files_of
from captum_vit.data.images import find_images
from captum_vit.errors import CaptumViTError, DatasetError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.storage.fingerprint import file_sha256, tensor_sha256


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


class ImageBatches:
    """A dataset in batches, in the dataset's order whatever the order of its loader.

    Parameters
    ----------
    dataset
        Image files, a folder of them, a dataset, or a loader; as for :func:`captum_vit.top_images`.
    vit
        The model that is to see them.
    batch_size, workers
        For all but a loader, which has its own. Of workers, None is none for the CPU, and some that read files for an
        accelerator.

    Raises
    ------
    DatasetError
        It is none of these, or a loader whose images cannot be told apart.
    ImageError
        There is no image in the folder.
    """

    def __init__(self, dataset: Any, vit: AdaptedModel, batch_size: int, workers: int | None) -> None:
        loader = dataset if isinstance(dataset, DataLoader) else None
        self.dataset: Any = loader.dataset if loader is not None else _as_dataset(dataset, vit)
        self.files = None if self.is_stream else files_of(self.dataset)
        self._collate: Callable[[list[Any]], Any] = default_collate
        # A generator of its own, as a loader takes the seed of its workers from the global one otherwise.
        self._options: dict[str, Any] = {"generator": torch.Generator()}
        self._options |= _reading(next(vit.parameters()).device, workers, self.files is not None)
        if loader is not None:
            _check_loader(loader)
            self._collate = loader.collate_fn
            options = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
            self._options |= {name: getattr(loader, name) for name in options}
            self._options["prefetch_factor"] = loader.prefetch_factor
            self._options["generator"] = loader.generator or self._options["generator"]
        if self.is_stream:
            self._stream = DataLoader(self.dataset, batch_size, **self._options) if loader is None else loader
            self.batches: Sequence[Sequence[int]] = ()
        else:
            self.batches = _in_order(loader, self.dataset, batch_size)

    @property
    def is_stream(self) -> bool:
        """Whether the dataset has no positions, so that images are numbered as they arrive."""
        return isinstance(self.dataset, IterableDataset)

    @property
    def length(self) -> int:
        """Number of positions in the dataset; 0 for a stream."""
        return 0 if self.is_stream else len(self.dataset)

    @property
    def images(self) -> int | None:
        """Number of images and unreadable files; None for a stream."""
        return None if self.is_stream else sum(map(len, self.batches))

    def fingerprint(self) -> str:
        """What tells this dataset, in these batches, from another.

        Of files, their paths and sizes; of other datasets, the class, the number of images, and the first and the last.
        """
        digest = hashlib.sha256()
        for batch in self.batches:
            digest.update(json.dumps(list(batch)).encode())
        for file in self.files or ():
            digest.update(json.dumps([file, _size(file)]).encode())
        if self.files is None and self.batches:
            digest.update(f"{type(self.dataset).__qualname__} {self.images}".encode())
            for position in (self.batches[0][0], self.batches[-1][-1]):
                item = _Collate(self._collate, None)([_Numbered(self.dataset)[position]])
                digest.update(json.dumps([item.sources, item.skipped]).encode())
        return digest.hexdigest()

    def read(self, first: int = 0) -> Iterator[ImageBatch]:
        """The batches, from number ``first`` on.

        Raises
        ------
        DatasetError
            What the dataset gives is not images as a model expects them.
        """
        if self.is_stream:
            yield from _numbered(self._stream)
            return
        yield from DataLoader(
            _Numbered(self.dataset),
            batch_sampler=self.batches[first:],  # type: ignore[arg-type]
            collate_fn=_Collate(self._collate, self.files),
            **self._options,
        )


class _Numbered(Dataset[tuple[int, Any]]):
    """A dataset whose items come with their positions, and as a message where they cannot be read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, position: int) -> tuple[int, Any]:
        try:
            return position, self.dataset[position]
        # ImageError of this package's own reading; in others' datasets Pillow's errors, which for a damaged PNG
        # include SyntaxError. What else goes wrong there is not the file's fault.
        except (CaptumViTError, OSError, SyntaxError) as error:
            return position, _Unreadable(str(error))


class _Unreadable(NamedTuple):
    message: str


class _Collate:
    """Makes a batch of numbered items, the images by the loader's own function. An object, so that workers get it."""

    def __init__(self, collate: Callable[[list[Any]], Any], files: Sequence[str] | None) -> None:
        self.collate = collate
        self.files = files

    def __call__(self, items: list[tuple[int, Any]]) -> ImageBatch:
        skipped = [item.message for _, item in items if isinstance(item, _Unreadable)]
        readable = [(position, item) for position, item in items if not isinstance(item, _Unreadable)]
        positions = [position for position, _ in readable]
        if not readable:
            return ImageBatch(None, [], [], skipped)
        try:
            images = _images(self.collate([item for _, item in readable]))
        except (TypeError, RuntimeError) as error:  # default_collate's for what is no tensor, and for unequal sizes
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(
                f"images cannot be put together in a batch ({error}); give the dataset a transform that makes each a "
                "tensor (3, H, W) of the same size"
            ) from error
        if len(images) != len(readable):
            raise DatasetError(
                f"the loader's collate_fn made {len(images)} images of {len(readable)}, so that they cannot be told "
                "apart; pass a loader that keeps each image"
            )
        return ImageBatch(images, positions, _sources(images, positions, self.files), skipped)


def _sources(images: Tensor, positions: Sequence[int], files: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Path and checksum of each image: of its file, or of its tensor where there is none."""
    asked = [(position, None if files is None else files[position]) for position in positions]
    if get_worker_info() is not None:  # one of several processes, which use the processors already
        return list(map(_source, asked, images))
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(_source, asked, images))


def _source(asked: tuple[int, str | None], image: Tensor) -> tuple[str, str]:
    position, file = asked
    if file is None:
        return f"index:{position}", tensor_sha256(image)
    # Some datasets list names within an archive.
    return file, file_sha256(file) if Path(file).is_file() else tensor_sha256(image)


def _numbered(stream: Iterable[Any]) -> Iterator[ImageBatch]:
    arrived = 0
    for batch in stream:
        images = _images(batch)
        positions = list(range(arrived, arrived + len(images)))
        arrived += len(images)
        yield ImageBatch(images, positions, _sources(images, positions), [])


def _images(batch: Any) -> Tensor:
    """The images of a collated batch, which are all of it, or the first part of it."""
    images = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point():
        return images
    found = (
        f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
    )
    raise DatasetError(
        f"the dataset gives batches of {found}; expected images, or images and labels, with images as the model "
        "expects them: floating point, normalized, shape (B, 3, H, W)"
    )


def _reading(device: torch.device, workers: int | None, reads_files: bool) -> dict[str, Any]:
    """A loader's options to read for a device; of a dataset without files, nobody knows where its images are."""
    options: dict[str, Any] = {"num_workers": workers or 0, "pin_memory": reads_files and device.type == "cuda"}
    if workers is None and reads_files and device.type != "cpu" and sys.platform == "linux":
        # Forked, as processes that start anew need a script that they can import.
        options |= {"num_workers": min(8, len(os.sched_getaffinity(0))), "multiprocessing_context": "fork"}
    return options


def _as_dataset(dataset: Any, vit: AdaptedModel) -> Any:
    if isinstance(dataset, str | Path):
        return ImageFiles.of(find_images([dataset]), vit)
    if isinstance(dataset, Sequence) and all(isinstance(path, str | Path) for path in dataset):
        return ImageFiles.of(dataset, vit)
    if isinstance(dataset, IterableDataset) or (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        return dataset
    raise DatasetError(
        f"{type(dataset).__name__} is not a dataset; give paths of images, a folder, a torch Dataset with a length, or "
        "a torch DataLoader"
    )


def _check_loader(loader: DataLoader[Any]) -> None:
    if type(loader).__iter__ is not DataLoader.__iter__:
        raise DatasetError(
            f"{type(loader).__name__} iterates in a way of its own, so that its images cannot be told apart; give a "
            "plain DataLoader, or its dataset"
        )
    if not isinstance(loader.dataset, IterableDataset) and loader.batch_sampler is None:
        raise DatasetError(
            "the loader has batch_size=None, so that its images cannot be told apart; give it a batch size"
        )


def _in_order(loader: DataLoader[Any] | None, dataset: Any, batch_size: int) -> list[Sequence[int]]:
    """Positions of the images of each batch: those that the loader would draw, each once, in order."""
    if loader is not None and (type(loader.batch_sampler) is not BatchSampler or loader.batch_size is None):
        return _batches_of(loader)  # a sampler of batches has its reasons: images of one size, perhaps
    order: Sequence[int] = range(len(dataset))
    if loader is not None and loader.batch_size is not None:
        batch_size = loader.batch_size
        if type(loader.sampler) is not SequentialSampler:
            drawn = np.unique(np.fromiter(loader.sampler, dtype=np.int64))
            order = order if len(drawn) == len(order) else drawn.tolist()
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _batches_of(loader: DataLoader[Any]) -> list[Sequence[int]]:
    drawn: list[Sequence[int]] = []
    before: set[int] = set()
    for batch in loader.batch_sampler or ():
        fresh = sorted({int(position) for position in batch} - before)
        before.update(fresh)
        drawn += [fresh] if fresh else []
    return sorted(drawn, key=lambda batch: batch[0])


def _size(file: str) -> int | None:
    try:
        return Path(file).stat().st_size
    except OSError:
        return None
