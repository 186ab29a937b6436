"""Neuron cards as a figure: one card, or several below one another."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from captum_vit.cards.canvas import BARS, FAINT, INK, OPTIMIZED, PHOTO, Canvas, fitting
from captum_vit.cards.card import Card
from captum_vit.cards.histogram import HistogramLayout
from captum_vit.cards.photos import Photo
from captum_vit.cards.words import candidates, number, origin, photo_name, scores, small_print
from captum_vit.errors import CardError
from captum_vit.plots import COLORMAP, laid_over

# Layout in inches.
MARGIN, GAP = 0.22, 0.1
RENDER, TILE = 2.9, 1.5
ROW_LABELS, COLUMN_LABELS = 0.34, 0.4
HEAD, FOOT = 0.62, 0.36
BAR, BAR_LABELS = 0.1, 0.62
CAPTION, PROBLEM = 0.64, 0.34
LOWEST_HISTOGRAM, HISTOGRAM_LABELS = 0.8, 0.34
NARROWEST, NARROWEST_COLUMN = 7.6, 1.2


def draw_card(card: Card) -> Figure:
    """Draw a card.

    On the left the optimized image and the histogram of the neuron's activations; then a column for each photo: the
    photo, its patch map laid over it (one scale of colours for all photos of the card), and the crop at the peak.

    Returns
    -------
    Figure
        Matplotlib's, apart from pyplot; show it in a notebook or save it with :func:`captum_vit.plots.save_figure`.
    """
    return draw_cards([card])


def draw_cards(cards: Sequence[Card]) -> Figure:
    """Draw several cards below one another, each as :func:`draw_card` does.

    Raises
    ------
    CardError
        There is none.
    """
    if not cards:
        raise CardError("no card to draw; give at least one")
    drawings = [_Drawing(card) for card in cards]
    width, height = max(drawing.width for drawing in drawings), sum(drawing.height for drawing in drawings)
    figure = Figure(figsize=(width, height), facecolor="white")
    top = height
    for drawing in drawings:
        top -= drawing.height
        drawing.draw(figure, top)
    return figure


class _Drawing:
    """One card's place in a figure; lengths are in inches, from the card's left and lower edge."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.render, self.tile = fitting(card.optimized.image, RENDER), fitting(card.optimized.image, TILE)
        self.pitch = max(self.tile[0], NARROWEST_COLUMN) + GAP
        self.photos_left = MARGIN + RENDER + ROW_LABELS
        self.width = max(NARROWEST, self.photos_left + len(card.photos) * self.pitch + BAR + BAR_LABELS)
        self.captions = CAPTION + (PROBLEM if card.optimized.problem else 0)
        tiles = COLUMN_LABELS + 3 * self.tile[1] + 2 * GAP
        self.top = FOOT + max(tiles, self.render[1] + self.captions + LOWEST_HISTOGRAM + HISTOGRAM_LABELS)
        self.height = self.top + HEAD

    def draw(self, figure: Figure, below: float) -> None:
        """Draw it into a figure, so far above the figure's lower edge."""
        self.canvas = Canvas(figure, below)
        self._words()
        self._optimized()
        self._photos()
        self._histogram()

    def _words(self) -> None:
        right = self.width - BAR - BAR_LABELS - GAP
        self.canvas.text(MARGIN, self.height - 0.38, self.card.address, 14, weight="bold")
        self.canvas.text(right, self.height - 0.38, self.card.model, 10, FAINT, ha="right")
        self.canvas.text(MARGIN, 0.15, "   ·   ".join(small_print(self.card)), 7, FAINT)

    def _optimized(self) -> None:
        optimized = self.card.optimized
        bottom = self.top - self.render[1]
        self.canvas.image(MARGIN, bottom, *self.render, optimized.image)
        self.canvas.text(MARGIN, bottom - 0.2, origin(self.card), 9.5)
        detail = f"activation {number(optimized.activation)}"
        self.canvas.text(MARGIN + RENDER, bottom - 0.2, detail, 8, OPTIMIZED, ha="right")
        self.canvas.text(MARGIN, bottom - 0.27, "\n".join(scores(self.card)), 7, FAINT, va="top")
        if optimized.problem:
            words = fill(f"Means little: {optimized.problem}", 56, max_lines=2)
            self.canvas.text(MARGIN, bottom - 0.55, words, 7, INK, va="top", style="italic")

    def _photos(self) -> None:
        card, tile_height = self.card, self.tile[1]
        if not card.photos:
            self.canvas.text(self.photos_left, self.top - 0.14, "No image has a finite activation.", 9.5)
            return
        bottoms = [self.top - COLUMN_LABELS - (row + 1) * tile_height - row * GAP for row in range(3)]
        for name, bottom in zip(("photo", "patch map", "at the peak"), bottoms, strict=True):
            middle = bottom + tile_height / 2
            self.canvas.text(self.photos_left - 0.1, middle, name, 8, FAINT, rotation=90, ha="center", va="center")
        for column, photo in enumerate(card.photos):
            left = self.photos_left + column * self.pitch
            self.canvas.text(left, self.top - 0.14, f"{column + 1}   {number(photo.activation)}", 9.5, PHOTO)
            self.canvas.text(left, self.top - 0.31, photo_name(photo), 7, FAINT)
            self._photo(photo, left, bottoms)
        left = self.photos_left + len(card.photos) * self.pitch
        colours = ScalarMappable(Normalize(*card.scale), COLORMAP)
        bar = self.canvas.figure.colorbar(colours, cax=self.canvas.axes(left, bottoms[1], BAR, tile_height))
        bar.outline.set_visible(False)
        bar.ax.ticklabel_format(useOffset=False)
        bar.ax.tick_params(length=2, pad=2, labelsize=7, color=FAINT, labelcolor=FAINT)
        bar.set_label("activation", size=7, color=FAINT)

    def _photo(self, photo: Photo, left: float, bottoms: Sequence[float]) -> None:
        """The photo, its patch map and the crop at its peak, each above a distance from the card's lower edge."""
        over = laid_over(photo.pixels, self.card.relative_heat(photo))
        rows, columns = photo.box
        box = (columns.start - 0.5, rows.start - 0.5), columns.stop - columns.start, rows.stop - rows.start
        for pixels, bottom in zip((photo.pixels, over), bottoms[:2], strict=True):
            axes = self.canvas.image(left, bottom, *self.tile, pixels)
            for color, thick in (("black", 2.0), ("white", 0.9)):
                axes.add_patch(Rectangle(*box, fill=False, color=color, linewidth=thick))
        self.canvas.image(left, bottoms[2], *self.tile, photo.crop)

    def _histogram(self) -> None:
        card, layout = self.card, HistogramLayout.of(self.card)
        height = self.top - self.render[1] - self.captions - FOOT - HISTOGRAM_LABELS
        axes = self.canvas.axes(MARGIN, FOOT + HISTOGRAM_LABELS, RENDER, height)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.spines["bottom"].set(visible=True, color=FAINT, linewidth=0.6)
        for left, width, tall in layout.bars:
            axes.add_patch(Rectangle((left, 0), width, tall, facecolor=BARS, edgecolor="white", linewidth=0.4))
        for place in layout.photos:
            axes.plot([place, place], [0, 0.9], color=PHOTO, linewidth=0.9)
        if layout.optimized is not None:
            if 0 <= layout.optimized <= 1:
                axes.plot([layout.optimized] * 2, [0, 1], color=OPTIMIZED, linewidth=1.4)
            elif layout.optimized < 0:
                axes.text(0, 1, "← optimized", size=7, color=OPTIMIZED, ha="left", va="top")
            else:
                axes.text(1, 1, "optimized →", size=7, color=OPTIMIZED, ha="right", va="top")
        axes.set_xticks([place for place, _ in layout.ticks], [words for _, words in layout.ticks])
        axes.tick_params(axis="x", length=2, pad=2, labelsize=7, color=FAINT, labelcolor=FAINT)
        axes.set_xlabel(f"activation on {candidates(card)} (log count)", size=7, color=FAINT, labelpad=2)
