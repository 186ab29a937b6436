"""What may be said of an atlas, and the manifest that follows from it, from the model and from the images."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from captum_vit.atlas.entries import Images, Pictures, SiteEntry, Work
from captum_vit.atlas.images import ImageList
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.source import MadeModel, NamedModel
from captum_vit.checks import whole_number
from captum_vit.optvis.plan import PlanSettings, RenderPlan
from captum_vit.optvis.recipe import Recipe
from captum_vit.optvis.recipes import DEFAULT_RECIPE
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import Size
from captum_vit.probes.site import Site
from captum_vit.ranking.measure import ACTIVATION, REDUCTIONS, find_reduction, resolve_measure
from captum_vit.ranking.relevance import RELEVANCE

# Larger tiles of renders and photos are made so small, in pixels of their longer side.
_LONGEST_RENDER, _LONGEST_PHOTO = 112, 80

# Pieces of a ranking: enough for a cluster, and none so small that its file matters.
_RANKING_PIECES, _FEWEST, _MOST = 256, 64, 8192


class AtlasSettings(TypedDict, total=False):
    """What a caller may say of an atlas; see :func:`captum_vit.make_atlas`."""

    k: int
    reduction: str
    relevance: bool
    recipe: str | Recipe
    steps: int | None
    size: int | Size | None
    seed: int
    dtype: str | None
    threads: int
    batch_size: int
    units_a_piece: int
    images_a_piece: int


def propose(
    vit: AdaptedModel,
    source: NamedModel | MadeModel,
    images: ImageList,
    device: str,
    settings: AtlasSettings,
    found: Manifest | None,
) -> Manifest:
    """The manifest of an atlas without neurons.

    Parameters
    ----------
    vit
        The adapted model, with its weights.
    source
        Where it is from.
    images
        What it is shown.
    device
        Kind of device on which it is to be made.
    settings
        What is said.
    found
        The manifest that is in the folder, which tells what is not said; None for a new atlas.

    Raises
    ------
    PlanError, RankingError, RecipeError
        A setting means nothing.
    """
    said = _said(settings, found)
    whole: PlanSettings = {**said, "origin": source.origin}
    plan = replace(RenderPlan.of(vit, **whole), device=device)
    size = vit.preprocessing.size
    return Manifest(
        model={
            "origin": dict(source.origin),
            "model": vit.model_name,
            "weights_sha256": plan.model["weights_sha256"],
            "size": list(size),
            "mean": list(vit.preprocessing.mean),
            "std": list(vit.preprocessing.std),
        },
        sites=tuple(
            SiteEntry(site.name, site.kind, site.units, site.grid(size), _extent(site, size)) for site in vit.sites
        ),
        images=Images(len(images.entries), images.sha256, images.labelled),
        k=whole_number("k", settings.get("k", 10 if found is None else found.k)),
        rankings=_rankings(vit, settings, found),
        plan={**said, "recipe": plan.recipe.name, "steps": plan.steps, "dtype": plan.dtype},
        renders=plan.settings,
        pictures=_pictures(plan.size, size) if found is None else found.pictures,
        work=_work(source, len(images.entries), device, settings, found),
        parts=() if found is None else found.parts,
    )


def _said(settings: AtlasSettings, found: Manifest | None) -> PlanSettings:
    """What the plan of the renders is resolved from."""
    known: PlanSettings = {"recipe": DEFAULT_RECIPE, "seed": 0} if found is None else {**found.said}
    for name in ("recipe", "steps", "size", "seed", "dtype"):
        if settings.get(name) is not None:
            known[name] = settings[name]
    return known


def _rankings(vit: AdaptedModel, settings: AtlasSettings, found: Manifest | None) -> dict[str, str]:
    reduction = settings.get("reduction") or (_usual(ACTIVATION) if found is None else found.rankings[ACTIVATION])
    find_reduction(reduction, ACTIVATION)
    relevance = settings.get("relevance")
    if relevance is None:
        relevance = found is not None and len(found.rankings) > 1
    more = {resolve_measure(vit, RELEVANCE): _usual(RELEVANCE)} if relevance else {}
    return {ACTIVATION: reduction, **more}


def _usual(measure: str) -> str:
    """The first of the reductions of a measure."""
    return next(iter(REDUCTIONS[measure]))


def _pictures(render_size: Size, photo_size: Size) -> Pictures:
    return Pictures(_at_most(render_size, _LONGEST_RENDER), _at_most(photo_size, _LONGEST_PHOTO))


def _at_most(size: Size, longest: int) -> Size:
    height, width = size
    factor = min(1.0, longest / max(size))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _work(
    source: NamedModel | MadeModel, images: int, device: str, settings: AtlasSettings, found: Manifest | None
) -> Work:
    if found is None:
        batch = 8 if device == "cpu" else 64
        a_piece = -(-images // _RANKING_PIECES)
        usual = Work(
            # One, so that as many workers as there are processors share them, and files do not depend on how many.
            threads=1,
            images_a_piece=min(max(a_piece, _FEWEST), _MOST),
            images_a_batch=16 if device == "cpu" else 64,
            units_a_piece=64,
            units_a_batch=batch,
        )
    else:
        usual = found.work
    return replace(
        usual,
        threads=whole_number("threads", settings.get("threads", usual.threads)),
        units_a_batch=whole_number("batch_size", settings.get("batch_size", usual.units_a_batch)),
        units_a_piece=whole_number("units_a_piece", settings.get("units_a_piece", usual.units_a_piece)),
        images_a_piece=whole_number("images_a_piece", settings.get("images_a_piece", usual.images_a_piece)),
    )


def _extent(site: Site, size: Size) -> tuple[float, float, float, float]:
    """Where a site's cells are: half a spacing beyond the centres of the outermost."""
    (top, bottom), (left, right) = (
        _ends(centres, pixels) for centres, pixels in zip(site.grid.centres(size), size, strict=True)
    )
    return left, top, right, bottom


def _ends(centres: NDArray[np.float64], pixels: int) -> tuple[float, float]:
    spacing = (centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else float(pixels)
    return float(centres[0] - spacing / 2) / pixels, float(centres[-1] + spacing / 2) / pixels
