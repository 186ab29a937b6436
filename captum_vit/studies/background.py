"""The study of backgrounds: how well a model does with the objects alone, and with all but the objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.classifier import Classifier
from captum_vit.studies.drawing import finish, panels, percent
from captum_vit.studies.keeping import Kept, files_sha256
from captum_vit.studies.measuring import WHOLE, Classification, Scored, accuracies, check_asked, columns_of, labels_of
from captum_vit.studies.regions import Regions
from captum_vit.studies.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOREGROUND, BACKGROUND = "foreground", "background"
ZERO, MEAN, BLUR = FILLS = ("zero", "mean", "blur")
_SIGMA = 1 / 14  # of the shorter side: 16 pixels of 224, beyond which shapes of objects are not made out
OUT_OF_SIGHT = "no object in the part of the image that the model sees"


def background(
    vit: AdaptedModel,
    images: str | Path | Mapping[str, str],
    boxes: str | Path,
    *,
    name: str | None = None,
    fill: str = ZERO,
    classifier: str = "auto",
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    keep: str | Path | None = None,
) -> Study:
    """Accuracy on full images, on what is inside the boxes of objects, and on what is outside (Ghiasi et al. 2022).

    Parameters
    ----------
    vit
        The adapted model.
    images
        A folder with a folder for each class, or files and their labels.
    boxes
        A folder with a file for each image, named as the image is: boxes in ImageNet's XML, or a PNG that is black
        outside of the objects. Images without are left out.
    name
        What the table calls the model; its class when not given.
    fill
        What stands where the image is cut away: ``"zero"`` after normalization, which is the paper's, ``"mean"``, the
        image's own mean colour, or ``"blur"``, the image out of focus.
    classifier, seed, batch_size, progress, keep
        As for :func:`captum_vit.studies.frequency`.

    Returns
    -------
    Study
        A row each for the full image, the foreground and the background.

    Raises
    ------
    StudyError
        There is no such fill, no file of boxes, no image can be used, or there is no classifier.
    LabelError
        An image is in no folder that is named after its class.
    """
    if fill not in FILLS:
        raise StudyError(f'no fill "{fill}"; use {", ".join(FILLS)}')
    check_asked(vit, batch_size)
    asked = Classification(vit, labels_of(images), classifier, seed, batch_size, progress)
    regions, crop = Regions(boxes), eval_crop(vit)
    settings = {"fill": fill, **asked.settings, "boxes": files_sha256(regions.files)}
    kept = Kept(keep, "background", vit, name, settings)
    if kept.done is not None:
        return kept.done

    def read(file: str) -> Tensor:
        """The image, and as a fourth channel the mask, cropped alike."""
        photo = open_rgb(file)
        mask = crop(regions.mask(file, photo.size))[:1]
        if mask.max() < 0.5:
            raise StudyError(OUT_OF_SIGHT)
        return torch.cat([crop(photo), mask])

    def scored(stack: Tensor, found: Classifier) -> Iterator[Scored]:
        pixels, inside = stack[:, :3], stack[:, 3:] >= 0.5
        filling = filled(pixels, fill, vit.preprocessing.mean)
        share = inside.float().mean((1, 2, 3))
        for view, image, area in (
            (WHOLE, pixels, torch.ones_like(share)),
            (FOREGROUND, torch.where(inside, pixels, filling), share),
            (BACKGROUND, torch.where(inside, filling, pixels), 1 - share),
        ):
            yield view, found.scores(vit.preprocessing.normalize(image.to(vit.dtype))), area

    hits = asked.measure(read, scored, kept)
    rows: list[Row] = [
        {
            "parameters": kept.facts["parameters"],
            "view": view,
            "fill": "none" if view == WHOLE else fill,
            "area kept": float(hits.extra[view].mean()),
            **accuracies(hits, view, seed),
        }
        for view in (WHOLE, FOREGROUND, BACKGROUND)
    ]
    return kept.finish(rows, hits.facts, ("area kept", *columns_of()))


def draw(study: Study) -> Figure:
    """Accuracy on the full images, on their foregrounds and on their backgrounds: top-1 to the left, top-5 right."""
    figure, axes = panels(2, sharey=True)
    views, width = (WHOLE, FOREGROUND, BACKGROUND), 0.8 / len(study.models)
    for ax, measured in zip(axes, ("top-1", "top-5"), strict=True):
        for number, model in enumerate(study.models):
            rows = {row["view"]: row for row in study.rows if row["model"] == model}
            chosen = [rows[view] for view in views]
            heights = percent(chosen, measured)
            low, high = percent(chosen, f"low {measured}"), percent(chosen, f"high {measured}")
            ends = [
                [max(middle - end, 0) for middle, end in zip(heights, low, strict=True)],
                [max(end - middle, 0) for middle, end in zip(heights, high, strict=True)],
            ]
            places = [place + (number - (len(study.models) - 1) / 2) * width for place in range(len(views))]
            ax.bar(places, heights, width, yerr=ends, capsize=2, color=f"C{number}", label=model)
        ax.set_xticks(range(len(views)), views)
        ax.set_title(measured)
    finish(axes, f"accuracy, % (cut away: {study.settings['fill']})")
    return figure


def filled(pixels: Tensor, fill: str, mean: tuple[float, ...]) -> Tensor:
    """What stands where images are cut away.

    Parameters
    ----------
    pixels
        Images in [0, 1], ``(B, 3, H, W)``.
    fill
        ``"zero"``, ``"mean"`` or ``"blur"``.
    mean
        The colour that the model's normalization turns into zero.

    Returns
    -------
    Tensor
        Pixels in [0, 1], ``(B, 3, H, W)``.
    """
    if fill == ZERO:
        return torch.tensor(mean).to(pixels)[:, None, None].expand_as(pixels)
    if fill == MEAN:
        return pixels.mean((-2, -1), keepdim=True).expand_as(pixels)
    sigma = _SIGMA * min(pixels.shape[-2:])
    blurred: Tensor = gaussian_blur(pixels, 2 * round(3 * sigma) + 1, sigma)
    return blurred
