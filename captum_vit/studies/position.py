"""The study of position: how far patches keep their place through depth, and whether neurons answer to places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.checks import whole_number
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import find_images, open_rgb
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.site import Site
from captum_vit.studies.bootstrap import interval
from captum_vit.studies.displacement import AT_PATCH, DISTANCE, ENERGY, MEASURES, displacement, distances, replaced
from captum_vit.studies.drawing import finish, numbers, panels, percent
from captum_vit.studies.keeping import Kept, files_sha256
from captum_vit.studies.measuring import check_asked
from captum_vit.studies.passes import Measured, measure_images
from captum_vit.studies.sampling import choose
from captum_vit.studies.study import Row, Study, with_interval
from captum_vit.studies.variance import interval_within, share_within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANCE, WITHIN = "chance", "variance within images"
CHANGES, MOMENTS = "changes at", "moments at"  # in what a pass measures
SHARES = (CHANCE, *(measure for measure in MEASURES if measure != DISTANCE), WITHIN)


class _Grid(NamedTuple):
    """Sites whose cells look at the same places: their names, the cell of each pixel, distances between cells."""

    sites: list[str]
    mask: Tensor
    between: Tensor


def position(
    vit: AdaptedModel,
    images: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    patches: int = 8,
    limit: int = 128,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    keep: str | Path | None = None,
) -> Study:
    """How far a patch keeps its place at each site, and how much of its activations' variance is within images.

    Some patches of each image are replaced, one at a time, by what lies half an image away, and activations with and
    without are compared. A patch is a cell of the site's own grid, so that models whose grids shrink are asked the same
    question at each of their sites: does the cell change that looks at the place that changed?

    Ghiasi et al. (2022, arXiv 2212.06727) find that patches keep their place in all blocks but the last, whose units
    answer to the whole image (Fig. 3b).

    Parameters
    ----------
    vit
        The adapted model.
    images
        A folder of images, searched with its subfolders, or files.
    name
        What the table calls the model; its class when not given.
    patches
        How many patches of each image are replaced, at most; drawn by the seed.
    limit
        Images to take, at most; drawn by the seed.
    seed
        Draws the images, the patches and the bootstrap.
    batch_size
        Images in a forward pass, the changed ones among them; at least one image with all its changes.
    progress
        Whether to show a bar.
    keep
        Folder of results, as for :func:`captum_vit.studies.frequency`.

    Returns
    -------
    Study
        A row for each site. ``units at the patch``: share of the units that change most at the patch that was replaced,
        of those that change; ``chance`` is 1 over the number of cells. ``energy at the patch``: share of the squared
        change that is there, with the same chance. ``distance``: how far from the patch the squared change lies, over
        what it would be if all cells changed alike: 0 is at the patch, 1 is anywhere; None of a grid of one cell.
        ``peaks lost there``: of the units with their largest activation at the patch, the share that has it elsewhere
        once the patch is replaced; ``peaks lost elsewhere`` is the control, of units with their largest activation at
        another place. ``variance within images``: the share of the variance of a unit's activations that lies between
        the places of one image; the rest tells images apart. Mean over units.

    Raises
    ------
    StudyError
        An argument means nothing, fewer than two images can be read, or ``keep`` has the study with other settings.
    ImageError
        There is no image in the folder.
    """
    check_asked(vit, batch_size)
    for argument, number in (("patches", patches), ("limit", limit)):
        whole_number(argument, number, error=StudyError)
    found = [str(file) for file in find_images([images] if isinstance(images, str | Path) else images)]
    files, not_drawn = choose(found, limit, seed)
    settings = {"patches": patches, "limit": limit, "seed": seed, "images": files_sha256(found)}
    kept = Kept(keep, "position", vit, name, settings)
    if kept.done is not None:
        return kept.done
    grids = _grids(vit.sites, vit.preprocessing.size)

    def compared(pixels: Tensor, of_files: Sequence[str]) -> dict[str, Tensor]:
        normalized = vit.preprocessing.normalize(pixels.to(vit.device, vit.dtype))
        values: dict[str, Tensor] = {}
        for grid in grids:
            drawn = [_cells(len(grid.between), patches, seed, file) for file in of_files]
            values |= _compare(vit, grid, normalized, torch.tensor(np.stack(drawn), device=vit.device))
        return values

    crop = eval_crop(vit)
    measured = measure_images(
        files,
        lambda file: crop(open_rgb(file)),
        compared,
        title="Replacing patches",
        batch_size=max(1, batch_size // (1 + patches)),
        progress=progress,
        notes=kept.notes("replace"),
    )
    if len(measured.used) < 2:
        reason = next(iter(measured.left_out.values()), "there is one")
        raise StudyError(f"the variance between images needs two that can be read; {reason}")
    rows = [
        {"parameters": kept.facts["parameters"], **_row(vit, number, measured, seed)}
        for number in range(len(vit.sites))
    ]
    facts = {"images": len(measured.used), "left_out": {**not_drawn, **measured.left_out}}
    return kept.finish(rows, facts, SHARES)


def draw(study: Study) -> Figure:
    """By depth: units and energy at the patch that was replaced, chance dotted, and the variance within images."""
    figure, axes = panels(3, sharey=True)
    for ax, measure in zip(axes, (AT_PATCH, ENERGY, WITHIN), strict=True):
        for number, model in enumerate(study.models):
            rows = [row for row in study.rows if row["model"] == model]
            depths, color = numbers(rows, "depth"), f"C{number}"
            ax.plot(depths, percent(rows, measure), marker="o", markersize=4, color=color, label=model)
            ends = percent(rows, f"low {measure}"), percent(rows, f"high {measure}")
            ax.fill_between(depths, *ends, color=color, alpha=0.2, linewidth=0)
            if measure != WITHIN:
                ax.plot(depths, percent(rows, CHANCE), linestyle=":", color=color)
        ax.set_title(measure)
        ax.set_xlabel("depth, first site to last")
    finish(axes, "%")
    return figure


def _grids(sites: Sequence[Site], size: tuple[int, int]) -> list[_Grid]:
    """The different grids of a model, at its own input size."""
    found: dict[bytes, _Grid] = {}
    for site in sites:
        mask = site.feature_mask(size)[0, 0]
        key = mask.numpy().tobytes()
        if key not in found:
            found[key] = _Grid([], mask, distances(site.grid, size))
        found[key].sites.append(site.name)
    return list(found.values())


def _cells(count: int, patches: int, seed: int, file: str) -> NDArray[np.int64]:
    """The cells of a grid that are replaced in an image: the same whatever the batch."""
    rng = np.random.default_rng([seed, *Path(file).name.encode(errors="surrogateescape")])
    return rng.choice(count, min(patches, count), replace=False)


def _compare(vit: AdaptedModel, grid: _Grid, images: Tensor, cells: Tensor) -> dict[str, Tensor]:
    """Pass images and their changed copies through the model as far as the grid's sites, and measure what changes.

    Gives sums of the change, ``(B, 5, 2)``, and moments of the unchanged maps, ``(B, 2, units)``, by site.
    """
    copies = replaced(images, grid.mask.to(images.device), cells)
    between = grid.between.to(images.device)
    values: dict[str, Tensor] = {}

    def arrive(site: str, maps: Tensor) -> None:
        maps = maps.to(images.device).unflatten(0, copies.shape[:2])
        values[f"{CHANGES} {site}"] = displacement(maps, cells, between)
        before = maps[:, 0].flatten(2).float()
        values[f"{MOMENTS} {site}"] = torch.stack((before.mean(2), before.var(2, unbiased=False)), dim=1)

    with vit.collector(grid.sites, arrive)():
        vit(copies.flatten(0, 1))
    return values


def _row(vit: AdaptedModel, number: int, measured: Measured, seed: int) -> Row:
    """What was found at one site, with its intervals."""
    site = vit.sites[number]
    rows, columns = site.grid(vit.preprocessing.size)
    row: dict[str, str | int | float | None] = {
        "site": site.name,
        "depth": number / max(len(vit.sites) - 1, 1),
        "grid": f"{rows}x{columns}",
        "units": site.units,
        CHANCE: 1 / (rows * columns),
    }
    changes = measured.values[f"{CHANGES} {site.name}"].astype(np.float64)
    for measure, (part, of) in zip(MEASURES, changes.transpose(1, 2, 0), strict=True):
        value = float(part.sum() / of.sum()) if of.any() else None
        row |= with_interval(measure, value, interval(part, of, seed))
    means, variances = measured.values[f"{MOMENTS} {site.name}"].astype(np.float64).transpose(1, 0, 2)
    within = with_interval(WITHIN, share_within(means, variances), interval_within(means, variances, seed))
    return {**row, **within}
