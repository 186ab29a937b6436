"""A folder of labelled photos, and what of it is kept from training: whole categories, and single photos."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from captum_vit.models.training.photos import Photo

_CATEGORY = re.compile(r"(n\d{8})_(.+)")  # WordNet's number of a noun, and the noun
_HELD_OUT = 6  # one category in so many is never trained on
_DRAW = "18"  # of the draws that keep categories of one name on one side, one that holds out 39 folders
CROPS = 28  # of each photo
SMALLEST = 0.08  # of a photo's area; at 256 pixels, less would be texture alone


@dataclass(frozen=True)
class LabelledPhotos:
    """What a folder of labelled photos is used for.

    Attributes
    ----------
    training
        The photos that models are trained on.
    kept
        One photo of each named category, kept from training.
    unseen
        All photos of the categories that no model is ever trained on.
    categories
        Names of the categories trained on that have a folder of their own, in alphabetical order: the head's classes.
    """

    training: list[Photo]
    kept: list[Photo]
    unseen: list[Photo]
    categories: tuple[str, ...]


def labelled_photos(folder: Path) -> LabelledPhotos:
    """Read a folder of photos whose categories are told by names such as ``n02084071_dog``.

    A folder of such a name holds photos of its category; a photo of such a name in any other folder is of it, too.
    Which categories are held out depends on WordNet's numbers alone, so a category is on one side wherever it occurs.

    Raises
    ------
    FileNotFoundError
        If there is no labelled photo in the folder.
    """
    photos, folders = [], defaultdict(list)
    for path in sorted(folder.rglob("*.jpg")):
        own, parent = _CATEGORY.fullmatch(path.stem), _CATEGORY.fullmatch(path.parent.name)
        if found := parent or own:
            name = f"{found[1]}-{path.stem}"
            photo = Photo(name, path, crops=CROPS, smallest=SMALLEST, category=found[2].replace("_", " "))
            photos.append((found[1], photo))
            if parent:
                folders[found[1]].append(photo)
    if not photos:
        raise FileNotFoundError(f"no photo named like n02084071_dog.jpg, or in a folder named like that, in {folder}")
    named = {number: inside for number, inside in folders.items() if not is_held_out(number)}
    kept = [inside[-1] for inside in named.values()]
    names = {number: inside[0].category for number, inside in named.items()}
    return LabelledPhotos(
        training=[photo for number, photo in photos if not is_held_out(number) and photo not in kept],
        kept=kept,
        unseen=[photo for number, photo in photos if is_held_out(number)],
        categories=tuple(sorted(names.values())),
    )


def is_held_out(number: str) -> bool:
    """Tell whether the category with this WordNet number, such as ``"n02084071"``, is never trained on."""
    return int(sha256(f"{_DRAW} {number}".encode()).hexdigest(), 16) % _HELD_OUT == 0


def category_of_each(photos: Sequence[Photo], categories: Sequence[str]) -> list[int]:
    """Give for each photo the position of its category in ``categories``, or -1 if it has none of them."""
    positions = {name: position for position, name in enumerate(categories)}
    return [positions.get(photo.category, -1) for photo in photos]
