"""Which images: the option that the commands share, and the files that it names, with a word on what else is there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_vit.cli import console
from captum_vit.errors import ImageError

if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel

LISTS = ".txt"


def images_option(otherwise: str, metavar: str = "PATH", more: str = "") -> Any:
    """The option of images, with what is taken when there are none, and with more that it may name."""
    return typer.Option(
        "--images",
        metavar=metavar,
        help=f"A photo, a folder (searched with its subfolders), or a text file ({LISTS}) with one path a line, "
        f"relative to its own folder{more}; may be repeated. {otherwise}",
        show_default=False,
    )


OWN_PHOTOS = "Parts of the photos that come with the package when not given."
Images = Annotated[list[Path] | None, images_option(OWN_PHOTOS)]
TopK = Annotated[int, typer.Option("-k", "--top-k", min=1, help="Photos of each neuron.")]


# Files from which on it is worth a look at a few how long all will take.
_MANY, _A_FEW = 100, 8


def find_images(places: Sequence[Path]) -> tuple[Path, ...]:
    """Image files in folders and below, and in lists; what is left out is counted and named on standard error.

    Raises
    ------
    ImageError
        A place does not exist, or there is no image in any of them.
    """
    from captum_vit.data import search

    lists = {place: search.read_list(place) for place in places if place.suffix.lower() == LISTS}
    rest = [place for place in places if place not in lists]
    found = search.search_images(rest)
    if not found.images and not lists:
        return search.find_images(rest)  # which says why
    for note in found.notes():
        console.warn(note)
    return (*found.images, *(file for files in lists.values() for file in files))


def foretell_ranking(vit: AdaptedModel, files: Sequence[str | Path], sites: Sequence[str], passes: float = 1) -> None:
    """Say how long a pass over images will take, if that is more than a minute, from the first few.

    Parameters
    ----------
    vit
        The adapted model.
    files
        The images.
    sites
        Names of the sites that are read.
    passes
        What an image costs, in forward passes to the last site.
    """
    if len(files) < _MANY:
        return
    import torch

    from captum_vit.data.crop import eval_crop
    from captum_vit.data.images import open_rgb
    from captum_vit.progress import foretell

    crop, parameter, taken = eval_crop(vit), next(vit.parameters()), []
    for file in files[:_A_FEW]:
        begin = time.perf_counter()
        try:
            pixels = crop(open_rgb(file))[None].to(parameter.device, parameter.dtype)
        except ImageError:  # which the pass itself reports
            continue
        with torch.no_grad(), vit.collect(sites) as maps:
            vit(vit.preprocessing.normalize(pixels))
        float(next(iter(maps.values())).sum())  # waits for the device
        taken.append(time.perf_counter() - begin)
    if len(taken) > 1:  # the first pass also allocates
        foretell(f"{len(files):,} images to rank", passes * len(files) * sum(taken[1:]) / len(taken[1:]))
