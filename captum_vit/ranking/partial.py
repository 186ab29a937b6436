"""An interrupted pass in a file: a ranking whose settings also tell how far the pass has come, with which arguments."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

from captum_vit.errors import RankingFileError, StalePartialWarning
from captum_vit.ranking.result import TopImages

SECONDS = 30.0  # between two writes; for the largest models, a write takes about one


class PartialRanking:
    """Where a pass notes how far it has come.

    Parameters
    ----------
    path
        The file.
    start
        The ranking before the first image.
    dataset
        Fingerprint of the dataset and its batches.
    """

    def __init__(self, path: Path, start: TopImages, dataset: str) -> None:
        self.path = path
        self.start = start
        arguments = [start.k, start.reduction, start.sites, start.settings, dataset]
        self._arguments = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
        self._written = time.monotonic()

    def resume(self) -> tuple[TopImages, int]:
        """The ranking to go on with, and the number of batches that are in it.

        Warns
        -----
        StalePartialWarning
            The file is damaged or of other arguments.
        """
        if not self.path.exists():
            self.write(self.start, 0)  # rather fail now than after an hour
            return self.start, 0
        try:
            found = TopImages.load(self.path)
        except RankingFileError as error:
            return self._anew(str(error))
        progress = found.settings.get("progress", {})
        if progress.get("arguments") != self._arguments:
            return self._anew(f"{self.path} is of another model, dataset or arguments")
        return replace(found, settings=self.start.settings), progress["batches"]

    @property
    def is_due(self) -> bool:
        """Whether the last writing is long enough ago."""
        return time.monotonic() - self._written >= SECONDS

    def write(self, ranking: TopImages, batches: int) -> None:
        """Write; what was there is replaced when the new file is whole.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        progress = {"arguments": self._arguments, "batches": batches}
        replace(ranking, settings={**ranking.settings, "progress": progress}).save(self.path)
        self._written = time.monotonic()

    def _anew(self, reason: str) -> tuple[TopImages, int]:
        warnings.warn(f"{reason}; starting anew", StalePartialWarning, stacklevel=4)
        return self.start, 0
