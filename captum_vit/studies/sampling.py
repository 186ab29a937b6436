"""Which images a study takes, where fewer will do."""

from __future__ import annotations

import random
from collections.abc import Sequence


def choose(files: Sequence[str], limit: int, seed: int) -> tuple[list[str], dict[str, str]]:
    """So many of some files, drawn by the seed, in their order; and the others, with the reason."""
    if len(files) <= limit:
        return list(files), {}
    drawn = set(random.Random(seed).sample(range(len(files)), limit))
    reason = f"not among the {limit} that were drawn"
    left_out = {file: reason for place, file in enumerate(files) if place not in drawn}
    return [file for file in files if file not in left_out], left_out
