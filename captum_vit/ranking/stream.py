"""Images that arrive without positions: numbered as they come, and refused where every worker gives all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from captum_vit.errors import DatasetError
from captum_vit.ranking.items import ImageBatch, images_of, sources_of

# Images of each worker that are compared, before nothing is kept of them any more.
_ENOUGH = 8

# Of the errors that PyTorch's own default_collate raises.
_NOT_COLLATED = ("default_collate", "stack expects each tensor to be equal size", "each element in list of batch")


def numbered(loader: DataLoader[Any]) -> Iterator[ImageBatch]:
    """The batches of a stream.

    Raises
    ------
    DatasetError
        They are no images, or the workers give the same ones.
    """
    # Batches come from the workers in turn, unless the loader takes them as they are done.
    workers = loader.num_workers if getattr(loader, "in_order", True) else 0
    seen: list[list[str]] = [[] for _ in range(workers)]
    arrived = 0
    for number, batch in enumerate(_collated(loader)):
        images = images_of(batch)
        if not len(images):
            continue
        positions = list(range(arrived, arrived + len(images)))
        arrived += len(images)
        sources = sources_of(images, positions)
        if workers > 1 and len(seen[-1]) < _ENOUGH:
            seen[number % workers] += [checksum for _, checksum in sources]
            if number % workers == workers - 1:
                _check_shared_out(seen)
        yield ImageBatch(images, positions, sources, [])


def _collated(loader: DataLoader[Any]) -> Iterator[Any]:
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (TypeError, RuntimeError) as error:
            if not any(words in str(error) for words in _NOT_COLLATED):
                raise
            reason = str(error).strip().splitlines()[-1]
            raise DatasetError(
                f"images of the stream cannot be put together in a batch ({reason}); give the dataset a transform that "
                "makes each a tensor (3, H, W) of the same size"
            ) from error
        yield batch


def _check_shared_out(seen: list[list[str]]) -> None:
    """Make sure that no two workers gave the same images, of which there are some that differ."""
    several = [images for images in seen if len(set(images)) > 1]
    if len({tuple(images) for images in several}) < len(several):
        raise DatasetError(
            f"each of the {len(seen)} workers gives all images of the stream, so that they would be counted "
            f"{len(seen)} times; share them out by torch.utils.data.get_worker_info() in the dataset's __iter__, or "
            "read it without workers"
        )
