"""The neuron card: the image that a neuron prefers, the photos that excite it most, and where in those photos."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from captum_vit.cards.agreement import STRONGEST, Agreement, agreements
from captum_vit.cards.notebook import html_of
from captum_vit.cards.photos import Photo, most_activating
from captum_vit.checks import check_adapted, shortly, some, whole_number
from captum_vit.errors import CardError
from captum_vit.optvis.plan import PlanSettings, RenderPlan, resolve
from captum_vit.optvis.rendering import render
from captum_vit.optvis.results import Render, Renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.address import Address
from captum_vit.ranking.result import Histogram, TopImages
from captum_vit.ranking.search import top_images
from captum_vit.storage.part import Part

# Clear images in seconds; the paper's own recipe, "ghiasi2022", passes eight copies of the image at every step.
DEFAULT_PHOTOS = 4

# Of the colours, in activation: a dead neuron's maps differ by rounding errors only.
_NARROWEST_SCALE = 0.01


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
    photos
        The photos with the largest activations, best first.
    histogram
        The neuron's activations on all images that the photos were chosen from.
    images
        How many those were.
    reduction
        How a photo's activation follows from its patch map: ``"mean"``, or another that ranked the photos.
    skipped
        Why files among the images were left out, one message each.
    agreement
        Whether the optimized image lies nearer to the neuron's strongest photos than to others; None where that cannot
        be told.
    """

    model: str
    address: Address
    optimized: Render
    photos: tuple[Photo, ...]
    histogram: Histogram
    images: int
    reduction: str = "mean"
    skipped: tuple[str, ...] = ()
    agreement: Agreement | None = None

    @property
    def photo(self) -> Photo:
        """The most activating photo.

        Raises
        ------
        CardError
            The neuron's activation is finite on no image.
        """
        if not self.photos:
            raise CardError(f"{self.address} has a finite activation on no image, so that no photo is the best")
        return self.photos[0]

    @property
    def ratio(self) -> float | None:
        """Activation of the optimized image over the strongest photo's; None where that is not above zero."""
        return self._over_the_strongest(self.optimized.activation)

    @property
    def worst_ratio(self) -> float | None:
        """The same of the worst of six views of the optimized image: shifts and zooms."""
        return self._over_the_strongest(self.optimized.worst)

    def _over_the_strongest(self, activation: float) -> float | None:
        if self.reduction != "mean" or not self.photos or not self.photo.activation > 0 or math.isnan(activation):
            return None
        return activation / self.photo.activation

    def _repr_html_(self) -> str:
        """The card, for notebooks."""
        return html_of(self)

    @property
    def site(self) -> str:
        """Name of the neuron's site."""
        return self.address.site

    @property
    def scale(self) -> tuple[float, float]:
        """Smallest and largest activation of a patch over the card's photos, which share one scale of colours."""
        low = min((float(photo.patch_map.min()) for photo in self.photos), default=0.0)
        high = max((float(photo.patch_map.max()) for photo in self.photos), default=1.0)
        return low, max(high, low + _NARROWEST_SCALE)

    def relative_heat(self, photo: Photo) -> NDArray[np.float32]:
        """Where in the card's :attr:`scale` a photo's :attr:`Photo.heat` lies, in [0, 1]; shape ``(H, W)``."""
        low, high = self.scale
        return np.asarray((photo.heat - low) / (high - low), dtype=np.float32).clip(0, 1)


def neuron_card(
    vit: AdaptedModel,
    address: str,
    photos: Sequence[str | Path] | TopImages,
    *,
    k: int = DEFAULT_PHOTOS,
    plan: RenderPlan | None = None,
    batch_size: int = 8,
    model: str | None = None,
    progress: bool = True,
    **settings: Unpack[PlanSettings],
) -> Card:
    """Make the card of one neuron; :func:`neuron_cards` for one address, with the same parameters and errors."""
    (card,) = neuron_cards(
        vit, [address], photos, k=k, plan=plan, batch_size=batch_size, model=model, progress=progress, **settings
    )
    return card


def neuron_cards(
    vit: AdaptedModel,
    addresses: Sequence[str],
    photos: Sequence[str | Path] | TopImages,
    *,
    k: int = DEFAULT_PHOTOS,
    plan: RenderPlan | None = None,
    batch_size: int = 8,
    model: str | None = None,
    progress: bool = True,
    **settings: Unpack[PlanSettings],
) -> tuple[Card, ...]:
    """Make the cards of many neurons, with one pass over the photos for all of them.

    :func:`captum_vit.cards.figure.draw_cards` draws them, :func:`captum_vit.cards.page.write_page` writes a page.

    Parameters
    ----------
    vit
        The adapted model.
    addresses
        ``"site:unit"`` each.
    photos
        Image files; those that cannot be read are left out and named in :attr:`Card.skipped`. Or the result of
        :func:`captum_vit.top_images`, and then only the photos that the cards show are read.
    k
        Photos on a card; fewer where there are fewer.
    plan
        How to optimize the images, instead of ``settings``.
    batch_size
        Photos in memory and neurons rendered at a time.
    model
        The model's name on the cards; that of its class when not given.
    progress
        Whether to show progress bars with the time left.
    **settings
        ``recipe``, ``steps``, ``size``, ``seed``, ``dtype``, as for :meth:`captum_vit.optvis.plan.RenderPlan.of`; the
        default recipe when none is named.

    Raises
    ------
    AddressError
        An address is malformed, or the model has no such site or unit.
    CardError
        There is no address, or ``k`` or ``batch_size`` means nothing.
    ImageError
        There is no photo that can be read.
    StaleRankingError
        The photos were ranked before, and the model, its weights or a photo is not the one of the ranking.
    RecipeError
        There is no such recipe.
    PlanError
        A setting means nothing, or there are settings beside a plan.
    """
    check_adapted(vit)
    neurons = [vit.canonical(address) for address in some("addresses", addresses, '["blocks.5:42"]', CardError)]
    k = whole_number("k", k, error=CardError)
    whole_number("batch_size", batch_size, error=CardError)
    _check_photos(photos)
    plan = resolve(vit, plan, {}, settings)
    top = rank_photos(vit, neurons, photos, k=k, batch_size=batch_size, progress=progress)
    best = most_activating(vit, neurons, top, k=k, batch_size=batch_size, progress=progress)
    renders = render(vit, neurons, plan=plan, batch_size=batch_size, progress=progress)
    renders = accentuated(vit, renders, best, plan)
    agreed = agreements(vit, renders, top, batch_size=batch_size, progress=progress)
    return assemble(renders, best, top, model or vit.model_name, agreed)


def accentuated(vit: AdaptedModel, renders: Renders, best: Sequence[tuple[Photo, ...]], plan: RenderPlan) -> Renders:
    """Renders as they are, but of neurons that no random start excites: those start from the strongest photo.

    Such a render says so (:attr:`captum_vit.optvis.results.Render.started_from`), and so do cards.
    """
    made = []
    for render_, photos in zip(renders, best, strict=True):
        if render_.problem and photos and plan.start is None and photos[0].activation > 0:
            render_ = started_again(vit, render_, plan, photos[0].path)
        made.append(render_)
    return replace(renders, renders=tuple(made))


def started_again(vit: AdaptedModel, made: Render, plan: RenderPlan, photo: str | Path) -> Render:
    """A neuron's render from a photo; the one that was made, where that means little, too."""
    (again,) = render(vit, made.neuron, plan=plan.starting_from(photo), progress=False)
    return made if again.problem else again


def _check_photos(photos: Any) -> None:
    """Make sure that photos are files, and some, or were ranked before."""
    if not isinstance(photos, TopImages):
        for photo in some("photos", photos, '["cat.jpg"], or the result of captum_vit.top_images', CardError):
            if not isinstance(photo, str | Path):
                raise CardError(f"photos holds {shortly(photo)}; give the paths of image files")


def rank_photos(
    vit: AdaptedModel,
    addresses: Sequence[str],
    photos: Sequence[str | Path] | TopImages,
    *,
    k: int = DEFAULT_PHOTOS,
    batch_size: int = 32,
    progress: bool = True,
) -> TopImages:
    """Rank photos by the activations of the neurons' sites, unless that was done before."""
    if isinstance(photos, TopImages):
        return photos
    sites = dict.fromkeys(vit.canonical(address).site for address in addresses)
    # So many that the best are of as many photos as are asked for, also where some are there in several parts.
    parts = max(Counter(Part.of(photo).file for photo in photos).values())
    return top_images(
        vit, photos, max(k, STRONGEST) * parts, sites=list(sites), batch_size=batch_size, progress=progress
    )


def assemble(
    renders: Renders,
    photos: Sequence[tuple[Photo, ...]],
    top: TopImages,
    model: str,
    agreed: Sequence[Agreement | None],
) -> tuple[Card, ...]:
    """Put cards together from the neurons' renders, their photos, the ranking that chose those, and agreements."""
    return tuple(
        Card(
            model=model,
            address=Address.parse(optimized.neuron),
            optimized=optimized,
            photos=best,
            histogram=top.histogram(optimized.neuron),
            images=top.images,
            reduction=top.reduction,
            skipped=tuple(top.skipped),
            agreement=agreement,
        )
        for optimized, best, agreement in zip(renders, photos, agreed, strict=True)
    )
