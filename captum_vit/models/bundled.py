"""The photos that the package carries for cards: small, freely licensed, never used in training."""

from __future__ import annotations

from pathlib import Path

from captum_vit.storage.part import parts


def default_photos() -> tuple[Path, ...]:
    """List the bundled photos (JPEG, RGB); ``photos/README.md`` beside them states source and licence of each.

    Returns
    -------
    tuple of pathlib.Path
        In alphabetical order.
    """
    return tuple(sorted((Path(__file__).parent / "photos").glob("*.jpg")))


def default_crops() -> tuple[Path, ...]:
    """List parts of the bundled photos, each an image of its own: what cards choose from where no photos are named.

    Of each photo all of it, its two halves along the longer side, its quarters and its middle, so that a neuron which
    answers to a small thing finds it large. Nothing is written: a part is named by its file and a media fragment
    (``cat.jpg#xywh=percent:50,0,50,50``, see :class:`captum_vit.storage.part.Part`), which whatever here reads an
    image file understands.

    Returns
    -------
    tuple of pathlib.Path
        In alphabetical order of the photos; eight of each.
    """
    from PIL import Image

    crops = []
    for path in default_photos():
        with Image.open(path) as photo:  # reads the size only
            wide = photo.width >= photo.height
        crops += [Path(part.path) for part in parts(path, wide=wide)]
    return tuple(crops)
