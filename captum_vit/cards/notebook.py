"""Neuron cards in notebooks: the optimized image and the photos with their patch maps, as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum_vit.cards.words import number, origin, photo_name, scores, small_print
from captum_vit.optvis.notebook import beside, figure, note
from captum_vit.optvis.results import to_pil
from captum_vit.plots import laid_over

if TYPE_CHECKING:
    from captum_vit.cards.card import Card


def html_of(card: Card) -> str:
    """What a notebook shows of a card; :func:`captum_vit.cards.page.write_page` writes all that there is."""
    optimized = card.optimized
    words = [f"{origin(card)}, activation {number(optimized.activation)}", *scores(card)]
    words += [f"Means little: {optimized.problem}"] if optimized.problem else []
    figures = [figure(to_pil(optimized.image), words, heading=f"{card.address} of {card.model}")]
    for rank, photo in enumerate(card.photos, start=1):
        both = np.concatenate((photo.pixels, laid_over(photo.pixels, card.relative_heat(photo))))
        caption = (f"activation {number(photo.activation)}", "above its patch map")
        figures.append(figure(to_pil(both), caption, heading=f"{rank}  {photo_name(photo, 255)}"))
    return beside(figures) + note("   ·   ".join(small_print(card)))
