"""Images in the folders that a command was given, with a word on what else is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captum_vit.cli import console


def find_images(places: Sequence[Path]) -> tuple[Path, ...]:
    """Image files in folders and below; what is left out is counted and named on standard error.

    Raises
    ------
    ImageError
        A place does not exist, or there is no image in any of them.
    """
    from captum_vit.data import search

    found = search.search_images(places)
    if not found.images:
        return search.find_images(places)  # which says why
    for note in found.notes():
        console.warn(note)
    return found.images
