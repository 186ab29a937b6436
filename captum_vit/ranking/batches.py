"""A dataset's images in batches that know where in the dataset each image is, and from which file."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, default_collate

from captum_vit.data.dataset import ImageFiles, files_of
from captum_vit.data.images import find_images
from captum_vit.errors import DatasetError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.ranking.fit import Fit
from captum_vit.ranking.items import Collate, ImageBatch, Numbered, together
from captum_vit.ranking.stream import numbered
from captum_vit.storage.part import Part


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
        self._fit = Fit(vit)
        self._collate: Callable[[list[Any]], Any] = default_collate
        # A generator of its own, as a loader takes the seed of its workers from the global one otherwise.
        self._options: dict[str, Any] = {"generator": torch.Generator()}
        self._options |= _reading(vit.device, workers, self.files is not None)
        if loader is not None:
            _check_loader(loader)
            self._collate = loader.collate_fn
            options = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
            self._options |= {name: getattr(loader, name) for name in options}
            self._options["prefetch_factor"] = loader.prefetch_factor
            self._options["generator"] = loader.generator or self._options["generator"]
        if self.is_stream:
            own = partial(together, default_collate)
            self._stream = (
                loader if loader is not None else DataLoader(self.dataset, batch_size, collate_fn=own, **self._options)
            )
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
                item = Collate(self._collate, None)([Numbered(self.dataset, self.files)[position]])
                digest.update(json.dumps([item.sources, item.skipped]).encode())
        return digest.hexdigest()

    def read(self, first: int = 0) -> Iterator[ImageBatch]:
        """The batches, from number ``first`` on.

        Raises
        ------
        DatasetError
            What the dataset gives is not images as a model expects them.
        """
        for batch in numbered(self._stream) if self.is_stream else self._loader(first):
            if batch.images is not None:
                self._fit.check(batch.images)
            yield batch

    def _loader(self, first: int) -> DataLoader[Any]:
        return DataLoader(
            Numbered(self.dataset, self.files),
            batch_sampler=self.batches[first:],  # type: ignore[arg-type]
            collate_fn=Collate(self._collate, self.files),
            **self._options,
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
        return Path(Part.of(file).file).stat().st_size
    except (OSError, ValueError):
        return None
