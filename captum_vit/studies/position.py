"""The study of position: how far patches keep their place through depth, and whether neurons answer to places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.checks import check_adapted, whole_number
from captum_vit.data.images import find_images
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.site import Site
from captum_vit.studies.bootstrap import interval
from captum_vit.studies.displacement import AT_PATCH, DISTANCE, ENERGY, MEASURES, displacement, distances, replaced
from captum_vit.studies.drawing import finish, numbers, panels, percent
from captum_vit.studies.reading import choose, read_batches
from captum_vit.studies.study import Row, Study
from captum_vit.studies.variance import interval_within, share_within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANCE, WITHIN = "chance", "variance within images"
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
        An argument means nothing, or fewer than two images can be read.
    ImageError
        There is no image in the folder.
    """
    check_adapted(vit)
    vit.check_takes_photos()
    for argument, number in (("patches", patches), ("limit", limit), ("batch_size", batch_size)):
        whole_number(argument, number, error=StudyError)
    left_out: dict[str, str] = {}
    found = [str(file) for file in find_images([images] if isinstance(images, str | Path) else images)]
    files = choose(found, limit, seed, left_out)
    grids = _grids(vit.sites, vit.preprocessing.size)
    sums: dict[str, list[Tensor]] = {site.name: [] for site in vit.sites}
    moments: dict[str, list[Tensor]] = {site.name: [] for site in vit.sites}
    at_once = max(1, batch_size // (1 + patches))
    batches = read_batches(vit, files, at_once, left_out, "Replacing patches", progress)
    with torch.inference_mode():
        for pixels, places in batches:
            for grid in grids:
                drawn = [_cells(len(grid.between), patches, seed, files[place]) for place in places]
                cells = torch.tensor(np.stack(drawn), device=pixels.device)
                _compare(vit, grid, pixels, cells, sums, moments)
    used = len(files) - sum(file in left_out for file in files)
    if used < 2:
        raise StudyError("the variance between images needs two that can be read; give more")
    name = name or vit.model_name
    parameters = sum(parameter.numel() for parameter in vit.model.parameters())
    rows = tuple(
        {"model": name, "parameters": parameters, **_row(vit, number, sums, moments, seed)}
        for number in range(len(vit.sites))
    )
    model = {
        "parameters": parameters,
        "input_size": list(vit.preprocessing.size),
        "images": used,
        "left_out": left_out,
    }
    return Study("position", rows, {"patches": patches, "limit": limit, "seed": seed}, {name: model}, SHARES)


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


def _compare(
    vit: AdaptedModel,
    grid: _Grid,
    pixels: Tensor,
    cells: Tensor,
    sums: dict[str, list[Tensor]],
    moments: dict[str, list[Tensor]],
) -> None:
    """Pass images and their changed copies through the model as far as the grid's sites, and note what comes of it."""
    copies = replaced(pixels, grid.mask.to(pixels.device), cells)
    between = grid.between.to(pixels.device)

    def arrive(site: str, maps: Tensor) -> None:
        maps = maps.to(pixels.device).unflatten(0, copies.shape[:2])
        sums[site].append(displacement(maps, cells, between))
        before = maps[:, 0].flatten(2).float()
        moments[site].append(torch.stack((before.mean(2), before.var(2, unbiased=False))))

    with vit.collector(grid.sites, arrive)():
        vit(copies.flatten(0, 1))


def _row(
    vit: AdaptedModel, number: int, sums: dict[str, list[Tensor]], moments: dict[str, list[Tensor]], seed: int
) -> Row:
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
    of_images = torch.cat(sums[site.name]).double().cpu().numpy()
    for measure, (part, of) in zip(MEASURES, of_images.transpose(1, 2, 0), strict=True):
        low, high = interval(part, of, seed) or (None, None)
        value = float(part.sum() / of.sum()) if of.any() else None
        row |= {measure: value, f"low {measure}": low, f"high {measure}": high}
    means, variances = torch.cat(moments[site.name], dim=1).double().cpu().numpy()
    low, high = interval_within(means, variances, seed) or (None, None)
    return row | {WITHIN: share_within(means, variances), f"low {WITHIN}": low, f"high {WITHIN}": high}
