"""A gallery as a figure: a model's neurons site by site, each with its optimized image, its photos and their maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.figure import Figure

from captum_vit.cards.canvas import FAINT, INK, OPTIMIZED, PHOTO, Canvas, fitting
from captum_vit.cards.card import Card
from captum_vit.cards.words import candidates, number, small_print
from captum_vit.errors import CardError
from captum_vit.plots import laid_over

# Layout in inches.
MARGIN, GAP, BETWEEN = 0.22, 0.06, 0.3
RENDER = 1.56
HEAD, SITE, CAPTION, FOOT = 0.55, 0.28, 0.2, 0.3
NARROWEST = 7.6


def draw_gallery(cards: Sequence[Card], columns: int = 3) -> Figure:
    """Draw many cards small, as Figure 3 of Ghiasi et al. (2022) does: a section for each site, in the cards' order.

    Of each neuron the optimized image, and to its right a column for each photo: the photo, and below it the patch map
    laid over it. The colours of a neuron's maps go from its smallest to its largest activation on the patches of its
    photos.

    Parameters
    ----------
    cards
        From :func:`captum_vit.cards.card.neuron_cards`, of one model and one ranking of photos.
    columns
        Neurons beside one another.

    Returns
    -------
    Figure
        Matplotlib's, apart from pyplot; show it in a notebook or save it with :func:`captum_vit.plots.save_figure`.

    Raises
    ------
    CardError
        There is no card, or no column.
    """
    if not cards:
        raise CardError("no card to draw; give at least one")
    if columns < 1:
        raise CardError(f"{columns} columns hold no neuron; give at least one")
    cells = [_Cell(card) for card in cards]
    wide, tall = max(cell.width for cell in cells) + BETWEEN, max(cell.height for cell in cells) + BETWEEN
    sections = [(site, list(section)) for site, section in groupby(cells, key=lambda cell: cell.card.site)]
    rows = [-(-len(section) // columns) for _, section in sections]
    beside = min(columns, max(len(section) for _, section in sections))
    width = max(NARROWEST, 2 * MARGIN + beside * wide - BETWEEN)
    height = HEAD + len(sections) * SITE + sum(rows) * tall + FOOT
    canvas = Canvas(Figure(figsize=(width, height), facecolor="white"))
    canvas.text(MARGIN, height - 0.36, cards[0].model, 14, weight="bold")
    canvas.text(width - MARGIN, height - 0.27, "activation of the optimized image", 7, OPTIMIZED, ha="right")
    canvas.text(width - MARGIN, height - 0.42, "activation of the photo above its patch map", 7, PHOTO, ha="right")
    top = height - HEAD
    for (site, section), section_rows in zip(sections, rows, strict=True):
        canvas.text(MARGIN, top - 0.2, "   ·   ".join((site, *_grids(section))), 9.5, FAINT)
        top -= SITE
        for index, cell in enumerate(section):
            row, column = divmod(index, columns)
            cell.draw(canvas, MARGIN + column * wide, top - row * tall)
        top -= section_rows * tall
    steps, _, _, versions = small_print(cards[0])
    chosen = f"best of {candidates(cards[0])}"
    activation = f"activation: {cards[0].reduction} over the patches"
    canvas.text(MARGIN, 0.15, "   ·   ".join((steps, chosen, activation, versions)), 6.5, FAINT)
    return canvas.figure


def _grids(section: Sequence[_Cell]) -> list[str]:
    """The patch grid of a site; a list of none where no photo tells it."""
    shapes = {photo.patch_map.shape for cell in section for photo in cell.card.photos}
    return [f"{rows}×{columns} patches" for rows, columns in sorted(shapes)]


class _Cell:
    """One neuron's place in a gallery; lengths are in inches."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.render = width, height = fitting(card.optimized.image, RENDER)
        tall = (height - GAP) / 2
        self.tile = tall * width / height, tall
        self.width = width + len(card.photos) * (self.tile[0] + GAP)
        self.height = CAPTION + height

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw it below ``top`` and right of ``left``."""
        card, optimized = self.card, self.card.optimized
        words, bottom = top - 0.13, top - self.height
        canvas.text(left, words, str(card.address.unit), 8, INK, weight="bold")
        if optimized.problem:
            canvas.text(left + self.render[0], words, "means little", 7, INK, ha="right", style="italic")
        else:
            told = number(optimized.activation) + (" from a photo" if optimized.started_from else "")
            canvas.text(left + self.render[0], words, told, 7.5, OPTIMIZED, ha="right")
        canvas.image(left, bottom, *self.render, optimized.image)
        left += self.render[0] + GAP
        for photo in card.photos:
            canvas.text(left, words, number(photo.activation), 7.5, PHOTO)
            canvas.image(left, bottom + self.tile[1] + GAP, *self.tile, photo.pixels)
            canvas.image(left, bottom, *self.tile, laid_over(photo.pixels, card.relative_heat(photo)))
            left += self.tile[0] + GAP
