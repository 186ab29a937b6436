"""A pass over image files in batches: what is measured of each, which are left out, and how far it has come."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from captum_vit.errors import ImageError, StalePartialWarning, StudyError
from captum_vit.progress import progress_bar
from captum_vit.storage.files import replacing

SECONDS = 30.0  # between two writes of what is done
_READERS = 4  # threads, which read a batch of images while the one before is measured

# From images as they were read, (B, C, H, W), and their files to values by name, each with a first axis of B.
Measure = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Measured:
    """What a pass measured.

    Attributes
    ----------
    values
        By name, values of the images that were used, in the order of their files, ``(N, ...)``.
    used
        Their files.
    left_out
        The files that were not used, and why.
    """

    values: Mapping[str, NDArray[Any]]
    used: tuple[str, ...]
    left_out: Mapping[str, str]


class Notes:
    """A file that holds how far a pass has come. What it is of is the business of its name.

    Parameters
    ----------
    path
        The file, whether it is there or not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = time.monotonic()

    def resume(self) -> Measured:
        """What was measured before; of a file that is damaged, nothing.

        Warns
        -----
        StalePartialWarning
            The file is damaged.
        """
        if not self.path.exists():
            return Measured({}, (), {})
        try:
            with safe_open(self.path, framework="numpy") as file:
                values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                told = json.loads(file.metadata()["pass"])
                return Measured(values, tuple(told["used"]), told["left_out"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{self.path} is damaged ({error}); starting anew", StalePartialWarning, stacklevel=4)
            return Measured({}, (), {})

    @property
    def is_due(self) -> bool:
        """Whether the last writing is long enough ago."""
        return time.monotonic() - self._written >= SECONDS

    def write(self, measured: Measured) -> None:
        """Write; what was there is replaced when the new file is whole.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        told = json.dumps({"used": measured.used, "left_out": dict(measured.left_out)})
        with replacing(self.path) as partial:
            save_file(
                {name: np.ascontiguousarray(each) for name, each in measured.values.items()}, partial, {"pass": told}
            )
        self._written = time.monotonic()


def measure_images(
    files: Sequence[str],
    read: Callable[[str], Tensor],
    measure: Measure,
    *,
    title: str,
    batch_size: int = 32,
    progress: bool = True,
    notes: Notes | None = None,
) -> Measured:
    """Measure images batch by batch, going on where an interrupted pass stopped.

    Parameters
    ----------
    files
        The images. The same files in batches of the same size give the same bits, interrupted or not.
    read
        From a file to what ``measure`` takes of it, ``(C, H, W)``, called in several threads; an error of an image or
        a study leaves the file out.
    measure
        What is measured of a batch.
    title
        Of the bar, and of the word on how long it takes.
    batch_size
        Images at a time.
    progress
        Whether to show a bar, and to say how long it takes where that is more than a minute.
    notes
        Where what is done is kept.
    """
    parts = [Measured({}, (), {}) if notes is None else notes.resume()]
    seen = len(parts[0].used) + len(parts[0].left_out)
    batches = [files[start : start + batch_size] for start in range(seen, len(files), batch_size)]
    bar = progress_bar(title, len(files), disable=not progress, completed=seen, rate="images", foretold=progress)
    with torch.inference_mode(), ThreadPoolExecutor(_READERS) as pool, bar as advance:
        try:
            for batch, found in _read_ahead(pool, batches, read):
                parts.append(_measured(batch, found, measure))
                advance(len(batch))
                if notes is not None and notes.is_due:
                    parts = [_merged(parts)]
                    notes.write(parts[0])
        finally:
            if notes is not None:
                notes.write(_merged(parts))
    return _merged(parts)


def _measured(batch: Sequence[str], found: Sequence[Tensor | str], measure: Measure) -> Measured:
    """What is measured of a batch, of whose files an image was read or a reason why not."""
    read = {file: each for file, each in zip(batch, found, strict=True) if isinstance(each, Tensor)}
    reasons = {file: each for file, each in zip(batch, found, strict=True) if isinstance(each, str)}
    values = measure(torch.stack(list(read.values())), list(read)) if read else {}
    return Measured({name: each.cpu().numpy() for name, each in values.items()}, tuple(read), reasons)


def _merged(parts: Sequence[Measured]) -> Measured:
    used = [part for part in parts if part.used]
    values = {name: np.concatenate([part.values[name] for part in used]) for name in (used[0].values if used else ())}
    reasons = {file: reason for part in parts for file, reason in part.left_out.items()}
    return Measured(values, tuple(file for part in used for file in part.used), reasons)


def _read_ahead(
    pool: ThreadPoolExecutor, batches: Sequence[Sequence[str]], read: Callable[[str], Tensor]
) -> Iterator[tuple[Sequence[str], list[Tensor | str]]]:
    """Batches of files with what was read of each, or why nothing was; the next is read meanwhile."""

    def start(batch: Sequence[str]) -> list[Future[Tensor | str]]:
        return [pool.submit(_read, read, file) for file in batch]

    coming = start(batches[0]) if batches else []
    for number, batch in enumerate(batches):
        current, coming = coming, start(batches[number + 1]) if number + 1 < len(batches) else []
        yield batch, [future.result() for future in current]


def _read(read: Callable[[str], Tensor], file: str) -> Tensor | str:
    try:
        return read(file)
    except (ImageError, StudyError) as error:
        return str(error)
