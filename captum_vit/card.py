"""The neuron card: the image that a neuron prefers, the photo that excites it most, and where in that photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.adapted import AdaptedModel
from captum_vit.images import ImageError, read_image
from captum_vit.progress import progress_bar
from captum_vit.recipe import Recipe
from captum_vit.rendering import render
from captum_vit.renders import Render

# Clear images in seconds; the paper's own recipe, "ghiasi2022", passes eight copies of the image at every step.
DEFAULT_RECIPE = "fourier"


@dataclass(frozen=True)
class Card:
    """What is known of one neuron, after Figure 3 of Ghiasi et al. (2022, arXiv 2212.06727).

    Attributes
    ----------
    model
        Name of the model.
    address
        The neuron, ``"site:unit"``.
    optimized
        The image optimized to excite the neuron, with its activation and its settings.
    photo
        The photo with the largest activation.
    photos
        Number of photos it was chosen from.
    skipped
        Why files among the photos were left out, one message each.
    """

    model: str
    address: str
    optimized: Render
    photo: Photo
    photos: int
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Photo:
    """A photo as the model saw it, and how a neuron responds to it.

    Attributes
    ----------
    path
        Its file.
    pixels
        The crop that the model saw, pixels in [0, 1], shape ``(H, W, 3)``.
    activation
        Mean of the neuron's activation over the patches.
    patch_map
        Activation over the patch grid, shape ``(rows, columns)``.
    heat
        The patch map resampled to the photo's pixels between the cells' true centres, shape ``(H, W)``.
    """

    path: Path
    pixels: NDArray[np.float32]
    activation: float
    patch_map: NDArray[np.float32]
    heat: NDArray[np.float32]


def neuron_card(
    vit: AdaptedModel,
    address: str,
    photos: Sequence[str | Path],
    *,
    recipe: str | Recipe = DEFAULT_RECIPE,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 8,
    model: str | None = None,
    progress: bool = True,
) -> Card:
    """Make the card of one neuron; :func:`captum_vit.card_figure.draw_card` draws it.

    Parameters
    ----------
    vit
        The adapted model.
    address
        ``"site:unit"``.
    photos
        Image files; those that cannot be read are left out and named in :attr:`Card.skipped`.
    recipe, steps, seed
        How to optimize the image, as for :func:`captum_vit.rendering.render`.
    batch_size
        Photos in memory at a time.
    model
        The model's name on the card; that of its class when not given.
    progress
        Whether to show progress bars with the time left.

    Raises
    ------
    AddressError
        The address is malformed, or the model has no such site or unit.
    ImageError
        There is no photo that can be read.
    RecipeError
        There is no such recipe.
    """
    site, unit = vit.address(address)
    photo, skipped = most_activating(vit, address, photos, batch_size=batch_size, progress=progress)
    renders = render(vit, address, recipe=recipe, steps=steps, seed=seed, progress=progress)
    return Card(
        model=model or vit.model_name,
        address=f"{site.name}:{unit}",
        optimized=renders[0],
        photo=photo,
        photos=len(photos) - len(skipped),
        skipped=skipped,
    )


def most_activating(
    vit: AdaptedModel,
    address: str,
    photos: Sequence[str | Path],
    *,
    batch_size: int = 8,
    progress: bool = True,
) -> tuple[Photo, tuple[str, ...]]:
    """Find the photo on which the neuron's activation, averaged over the patches, is largest.

    Photos are resized and cropped as timm's evaluation transform for the model does, and read a few at a time.

    Returns
    -------
    photo
        The photo; of several with the same activation, the first.
    skipped
        What was wrong with files that could not be read, one message each.

    Raises
    ------
    AddressError
        The address is malformed, or the model has no such site or unit.
    ImageError
        No photo can be read, or none was given.
    """
    site, _ = vit.address(address)
    crop = eval_crop(vit)
    skipped: list[str] = []
    best: tuple[float, Path, Tensor, Tensor] | None = None
    with progress_bar("Searching photos", len(photos), disable=not progress) as advance:
        for first in range(0, len(photos), batch_size):
            batch = [Path(path) for path in photos[first : first + batch_size]]
            crops: dict[Path, Tensor] = {}
            for path in batch:
                try:
                    crops[path] = crop(read_image(path))
                except ImageError as error:
                    skipped.append(str(error))
            if crops:
                maps = _patch_maps(vit, address, torch.stack(list(crops.values())))
                for (path, pixels), patch_map in zip(crops.items(), maps, strict=True):
                    activation = float(patch_map.mean())
                    if best is None or activation > best[0]:
                        best = activation, path, pixels, patch_map
            advance(len(batch))
    if best is None:
        first_problem = f"; {skipped[0]}" if skipped else ""
        raise ImageError(f"none of {len(photos)} files can be read as an image{first_problem}")
    activation, path, pixels, patch_map = best
    heat = site.to_image(patch_map, vit.preprocessing.size)
    photo = Photo(path, pixels.permute(1, 2, 0).numpy(), activation, patch_map.numpy(), heat.numpy())
    return photo, tuple(skipped)


def eval_crop(vit: AdaptedModel) -> Callable[[NDArray[np.float32]], Tensor]:
    """The resizing and cropping of timm's evaluation transform for a model, without its normalization.

    Returns
    -------
    callable
        From an image ``(height, width, 3)`` to the part of it that the model sees, ``(3, H, W)``, pixels in [0, 1].
    """
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    # In a wrapper, the configuration is the wrapped model's.
    configured = (module for module in vit.model.modules() if hasattr(module, "pretrained_cfg"))
    config = resolve_model_data_config(next(configured, vit.model))
    config["input_size"] = (3, *vit.preprocessing.size)
    transform = create_transform(**config, is_training=False, normalize=False)

    def crop(image: NDArray[np.float32]) -> Tensor:
        pixels: Tensor = transform(Image.fromarray((image * 255).round().astype(np.uint8)))
        return pixels.float() / 255

    return crop


def _patch_maps(vit: AdaptedModel, address: str, pixels: Tensor) -> Tensor:
    """Patch maps ``(B, rows, columns)`` on the CPU, of images ``(B, 3, H, W)`` in [0, 1]."""
    parameter = next(vit.parameters())
    images = vit.preprocessing.normalize(pixels.to(parameter.device, parameter.dtype))
    return vit.patch_map(images, address).float().cpu()
