"""The photos that excite a neuron most: what the model saw of them, where the neuron is active, and where it peaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_vit.checks import whole_number
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import StaleRankingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import PatchGrid
from captum_vit.progress import progress_bar
from captum_vit.ranking.measure import ACTIVATION
from captum_vit.ranking.result import TopImage, TopImages
from captum_vit.ranking.search import REDUCTIONS
from captum_vit.storage.fingerprint import file_sha256, weights_sha256
from captum_vit.storage.part import Part

# Side of the crop at the peak, in cells: the peak's own and its neighbours.
CROP_CELLS = 3


@dataclass(frozen=True)
class Photo:
    """A photo as the model saw it, and how a neuron responds to it.

    Attributes
    ----------
    path
        Its file, or the part of a file that it is (:class:`captum_vit.storage.part.Part`).
    pixels
        The crop that the model saw, pixels in [0, 1], shape ``(H, W, 3)``.
    activation
        The neuron's activation over the patches, reduced as the ranking that chose the photo says; the mean where
        that was by relevance.
    patch_map
        Activation over the patch grid, shape ``(rows, columns)``.
    grid
        From pixels to the cells of the patch map.
    relevance
        What the neuron contributes to the model's output, if the ranking that chose the photo was by that.
    """

    path: Path
    pixels: NDArray[np.float32] = field(repr=False)
    activation: float
    patch_map: NDArray[np.float32] = field(repr=False)
    grid: PatchGrid = field(repr=False)
    relevance: float | None = None

    @property
    def part(self) -> Part:
        """The file, and what of it this is."""
        return Part.of(self.path)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def heat(self) -> NDArray[np.float32]:
        """The patch map resampled to the photo's pixels between the cells' true centres, shape ``(H, W)``."""
        return self.grid.to_image(torch.from_numpy(self.patch_map), self.size).numpy()

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the patch with the largest activation; of several, the first in reading order."""
        row, column = np.unravel_index(int(self.patch_map.argmax()), self.patch_map.shape)
        return int(row), int(column)

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of pixels around the peak: three by three cells, moved inwards at the photo's border."""
        rows, columns = (
            _around(centres, index, pixels)
            for centres, index, pixels in zip(self.grid.centres(self.size), self.peak, self.size, strict=True)
        )
        return rows, columns

    @property
    def crop(self) -> NDArray[np.float32]:
        """The pixels in :attr:`box`, shape ``(rows, columns, 3)``."""
        return self.pixels[self.box]


def most_activating(
    vit: AdaptedModel,
    addresses: Sequence[str],
    top: TopImages,
    *,
    k: int,
    batch_size: int = 8,
    progress: bool = True,
) -> tuple[tuple[Photo, ...], ...]:
    """Read the k most activating photos of each neuron, and map where they excite it.

    Photos are resized and cropped as timm's evaluation transform for the model does. One that several neurons share
    is read once. Of parts of one photo, the most activating stands for it.

    Parameters
    ----------
    vit
        The adapted model, which made the ranking.
    addresses
        ``"site:unit"`` each.
    top
        The ranking, of image files.
    k
        Photos of each neuron; fewer where the ranking has fewer.
    batch_size
        Photos that pass through the model at a time.
    progress
        Whether to show a progress bar with the time left.

    Returns
    -------
    tuple of tuple of Photo
        For each address, its photos, best first.

    Raises
    ------
    AddressError
        An address is malformed, or the model or the ranking has no such site or unit.
    ArgumentError
        ``batch_size`` is not a whole number of at least 1.
    ChannelsError
        The model takes other channels than red, green and blue.
    ImageError
        A photo that was ranked as another program reads it means nothing as one here.
    StaleRankingError
        The model, its weights or a photo is not the one of the ranking.
    """
    check_model(vit, top)
    vit.check_takes_photos()
    batch_size = whole_number("batch_size", batch_size)
    crop = eval_crop(vit)
    neurons = [vit.address(address) for address in addresses]
    wanted = [of_different_photos(top.best(address))[:k] for address in addresses]
    files = list({image.path: image for images in wanted for image in images}.values())
    found: dict[tuple[int, str], Photo] = {}
    with progress_bar("Mapping photos", len(files), disable=not progress) as advance:
        for first in range(0, len(files), batch_size):
            batch = files[first : first + batch_size]
            row_of = {image.path: row for row, image in enumerate(batch)}
            pixels = torch.stack([crop(open_unchanged(image)) for image in batch])
            asked = [(n, image) for n, images in enumerate(wanted) for image in images if image.path in row_of]
            maps = _site_maps(vit, {neurons[n][0].name for n, _ in asked}, pixels)
            for n, image in asked:
                (site, unit), row = neurons[n], row_of[image.path]
                patch_map = maps[site.name][row, unit].float().cpu()
                activation, relevance = float(patch_map.mean()), None
                if top.by == ACTIVATION:
                    activation = image.activation
                    _check_activation(addresses[n], image, patch_map, top.reduction)
                else:
                    relevance = image.relevance
                photo = pixels[row].permute(1, 2, 0).numpy()
                path = Path(image.path)
                found[n, image.path] = Photo(path, photo, activation, patch_map.numpy(), site.grid, relevance)
            advance(len(batch))
    return tuple(tuple(found[n, image.path] for image in images) for n, images in enumerate(wanted))


def of_different_photos(images: Sequence[TopImage]) -> list[TopImage]:
    """Of the images of one file, such as crops of a photo, the first."""
    first: dict[str, TopImage] = {}
    for image in images:
        first.setdefault(Part.of(image.path).file, image)
    return list(first.values())


def check_model(vit: AdaptedModel, top: TopImages) -> None:
    """Make sure that a ranking is of this model with these weights, at this input size.

    Raises
    ------
    StaleRankingError
        It is of another.
    """
    settings = top.settings
    if settings["model"] != vit.model_name:
        raise StaleRankingError(f"the images were ranked by a {settings['model']}, and this is a {vit.model_name}")
    if tuple(settings["size"]) != vit.preprocessing.size:
        ranked, own = ("×".join(map(str, size)) for size in (settings["size"], vit.preprocessing.size))
        raise StaleRankingError(f"the images were ranked at {ranked} pixels, and this model takes {own}")
    if settings["weights_sha256"] != weights_sha256(vit.model):
        raise StaleRankingError(
            f"the images were ranked by a {vit.model_name} with other weights; rank them again with these"
        )


def _around(centres: NDArray[np.float64], index: int, pixels: int) -> slice:
    """Pixels along one axis that a cell and its neighbours cover."""
    spacing = (centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else pixels
    side = max(1, min(pixels, round(CROP_CELLS * spacing)))
    start = min(max(0, round(centres[index] - side / 2)), pixels - side)
    return slice(start, start + side)


@torch.no_grad()
def _site_maps(vit: AdaptedModel, sites: set[str], pixels: Tensor) -> dict[str, Tensor]:
    """Maps ``(B, units, rows, columns)`` of sites, of images ``(B, 3, H, W)`` in [0, 1]."""
    with vit.collect(sites) as maps:
        vit(vit.preprocessing.normalize(pixels.to(vit.device, vit.dtype)))
    return maps


def open_unchanged(image: TopImage) -> Image.Image:
    """A ranked image, if its file is still the one that was ranked.

    Raises
    ------
    StaleRankingError
        It is not there, or another.
    """
    if re.fullmatch(r"index:\d+", image.path):
        raise StaleRankingError("the ranking is of images without files; rank image files, or a folder")
    file = Part.of(image.path).file
    if Path(file).exists() and not Path(file).is_file():  # opening a pipe would wait for ever
        raise StaleRankingError(
            f"{image.path} was ranked and is no file any more; put it back, or rank the images again"
        )
    try:
        found = file_sha256(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StaleRankingError(
            f"{image.path} was ranked but cannot be read ({reason}); put it back, or rank the images again"
        ) from error
    if found != image.sha256:
        raise StaleRankingError(f"{image.path} is not the file that was ranked any more; rank the images again")
    return open_rgb(image.path)


def _check_activation(address: str, image: TopImage, patch_map: Tensor, reduction: str) -> None:
    """Make sure that the ranking saw the same part of a photo."""
    activation = float(REDUCTIONS[reduction](patch_map[None, None]))
    # Wide enough for half precision on one of the two sides.
    if abs(activation - image.activation) > 0.02 + 0.05 * abs(image.activation):
        raise StaleRankingError(
            f"{address} has activation {activation:.3g} on {image.path}, and had {image.activation:.3g} when that was "
            "ranked: the ranking was of another crop; rank image files, or a folder"
        )
