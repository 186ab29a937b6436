"""The neuron card as a figure."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from captum_vit.card import Card
from captum_vit.plots import COLORMAP, laid_over

INK, FAINT = "#222222", "#6e6e6e"

# Layout in inches.
PANEL, GAP, MARGIN = 3.0, 0.14, 0.22
HEAD, CAPTION, FOOT = 0.56, 0.56, 0.34
BAR, BAR_GAP, BAR_LABELS = 0.11, 0.09, 0.62


def draw_card(card: Card) -> Figure:
    """Draw a card: optimized image, most activating photo, and the patch map over that photo.

    Returns
    -------
    Figure
        Matplotlib's, apart from pyplot; show it in a notebook or save it with :func:`captum_vit.plots.save_figure`.
    """
    rows, columns = card.photo.pixels.shape[:2]
    panel_height = PANEL * rows / columns
    width = 2 * MARGIN + 3 * PANEL + 2 * GAP + BAR_GAP + BAR + BAR_LABELS - MARGIN
    height = HEAD + panel_height + CAPTION + FOOT
    figure = Figure(figsize=(width, height), facecolor="white")

    def axes(left: float, across: float) -> Axes:
        """Axes as tall as the panels, at a distance from the left and of a width in inches."""
        bottom = FOOT + CAPTION
        box = (left / width, bottom / height, across / width, panel_height / height)
        frame = figure.add_axes(box, xticks=[], yticks=[])
        frame.spines[:].set_visible(False)
        return frame

    def text(left: float, up: float, words: str, size: float, color: str = INK, **style: Any) -> None:
        # File names may hold dollar signs, which are not mathematics.
        figure.text(left / width, up / height, words, size=size, color=color, parse_math=False, **style)

    lefts = [MARGIN + i * (PANEL + GAP) for i in range(3)]
    optimized, photo = card.optimized, card.photo
    axes(lefts[0], PANEL).imshow(optimized.image, interpolation="bicubic", aspect="auto")
    axes(lefts[1], PANEL).imshow(photo.pixels, interpolation="bicubic", aspect="auto")
    over = axes(lefts[2], PANEL)
    low, high = float(photo.patch_map.min()), float(photo.patch_map.max())
    scale = Normalize(low, high if high > low else low + 1e-6)
    over.imshow(laid_over(photo.pixels, scale(photo.heat)), interpolation="bicubic", aspect="auto")

    bar = figure.colorbar(ScalarMappable(scale, COLORMAP), cax=axes(lefts[2] + PANEL + BAR_GAP, BAR))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, pad=2, labelsize=7, color=FAINT, labelcolor=FAINT)
    bar.set_label("activation", size=7, color=FAINT)

    text(lefts[0], height - 0.36, card.address, 14, weight="bold")
    text(lefts[2] + PANEL, height - 0.36, card.model, 10, FAINT, ha="right")
    grid = "×".join(map(str, photo.patch_map.shape))
    captions = (
        ("Optimized image", f"activation {_number(optimized.activation)}"),
        ("Most activating photo", f"{_shortened(photo.path.name)}, activation {_number(photo.activation)}"),
        ("Where in the photo", f"patch map {grid}, from {_number(low)} to {_number(high)}"),
    )
    for left, (title, detail) in zip(lefts, captions, strict=True):
        text(left, FOOT + CAPTION - 0.2, title, 9.5)
        text(left, FOOT + CAPTION - 0.38, detail, 8, FAINT)
    settings = optimized.settings
    small_print = [
        f"{settings['steps']} steps of recipe {settings['recipe']}, seed {settings['seed']}",
        f"best of {card.photos} photo{'s' if card.photos != 1 else ''}",
        "activation: mean over patches",
    ]
    text(lefts[0], 0.17, "   ·   ".join(small_print), 7, FAINT)
    return figure


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _shortened(name: str, longest: int = 30) -> str:
    """A file name, its middle left out if it is long."""
    return name if len(name) <= longest else f"{name[: longest - 12]}…{name[-11:]}"
