"""The photos that the package carries for cards: small, freely licensed, never used in training."""

from __future__ import annotations

from pathlib import Path


def default_photos() -> tuple[Path, ...]:
    """List the bundled photos (JPEG, RGB); ``photos/README.md`` beside them states source and licence of each.

    Returns
    -------
    tuple of pathlib.Path
        In alphabetical order.
    """
    return tuple(sorted((Path(__file__).parent / "photos").glob("*.jpg")))
