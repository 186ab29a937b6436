"""The images of studies without a classifier: which are taken, in batches, and which are left out and why."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch import Tensor

from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.progress import progress_bar
from captum_vit.ranking.batches import ImageBatches


def choose(files: Sequence[str], limit: int, seed: int, left_out: dict[str, str]) -> list[str]:
    """So many of some files, drawn by the seed, in their order; the others are noted with the reason."""
    if len(files) <= limit:
        return list(files)
    drawn = set(random.Random(seed).sample(range(len(files)), limit))
    reason = f"not among the {limit} that were drawn"
    left_out |= {file: reason for place, file in enumerate(files) if place not in drawn}
    return [file for place, file in enumerate(files) if place in drawn]


def read_batches(
    vit: AdaptedModel, files: Sequence[str], batch_size: int, left_out: dict[str, str], title: str, progress: bool
) -> Iterator[tuple[Tensor, list[int]]]:
    """Images as the model expects them, on its device, and the places of their files among ``files``.

    Parameters
    ----------
    vit
        The adapted model.
    files
        Image files.
    batch_size
        Images at a time.
    left_out
        Gets the files that cannot be read, and why.
    title
        Of the progress bar.
    progress
        Whether to show it.

    Raises
    ------
    StudyError
        At the end: none could be read.
    """
    batches = ImageBatches(files, vit, batch_size, None)
    used = 0
    with progress_bar(title, len(files), disable=not progress, rate="images") as advance:
        for asked, batch in zip(batches.batches, batches.read(), strict=True):
            read = set(batch.positions)
            unreadable = [place for place in asked if place not in read]
            left_out |= {files[place]: reason for place, reason in zip(unreadable, batch.skipped, strict=True)}
            if batch.images is not None:
                yield batch.images.to(vit.device, vit.dtype), batch.positions
            used += len(read)
            advance(len(asked))
    if not used:
        raise StudyError(f"none of {len(files)} images can be read; {next(iter(left_out.values()), 'there are none')}")
