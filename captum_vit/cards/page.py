"""Neuron cards as one self-contained HTML page, which needs no network and works without its script."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from captum_vit.cards.card import Card
from captum_vit.cards.histogram import HistogramLayout
from captum_vit.cards.photos import Photo
from captum_vit.cards.words import candidates, number, origin, photo_name, scores, small_print
from captum_vit.errors import CardError
from captum_vit.optvis.results import to_pil
from captum_vit.plots import COLORMAP, laid_over
from captum_vit.storage.files import replacing, shown

# Pixels of the longer side: sharp enough at the width of the page's columns, and a card stays at some 60 kB.
RENDER, TILE = 320, 192
QUALITY = 75


@dataclass(frozen=True)
class Picture:
    """An image on the page: its data URI, its size in pixels, and what it shows, in words."""

    source: str
    width: int
    height: int
    alt: str


def write_page(cards: Iterable[Card], path: str | Path, title: str | None = None, *, mark: str = "") -> None:
    """Write cards as an HTML page, whole or not at all.

    All that the page shows is in it; its security policy forbids it any request. It filters by site and address, with
    the keyboard too, and without scripts it shows all cards.

    Parameters
    ----------
    cards
        At least one. They are drawn one by one, and their photos need not be in memory together.
    path
        File to write.
    title
        Heading of the page; tells the model when not given.
    mark
        Words for programs, that tell the page from others.

    Raises
    ------
    CardError
        There is none.
    OutputError
        The file cannot be written.
    """
    page = page_of(cards, title, mark=mark)
    with replacing(Path(path)) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")


def page_of(cards: Iterable[Card], title: str | None = None, *, mark: str = "") -> str:
    """The page that :func:`write_page` writes."""
    described, skipped = [], dict[str, None]()
    for card in cards:
        described.append(_described(card))
        skipped |= dict.fromkeys(card.skipped)
    if not described:
        raise CardError("no card to write; give at least one")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("captum_vit.cards"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["csp_hash"] = _csp_hash
    colours = matplotlib.colormaps[COLORMAP](np.linspace(0, 1, 9))
    return environment.get_template("cards.html").render(
        title=shown(title) if title else f"Neurons of {', '.join(dict.fromkeys(card['model'] for card in described))}",
        cards=described,
        sites=Counter(card["site"] for card in described),
        skipped=list(map(shown, skipped)),
        mark=mark,
        style=environment.get_template("cards.css").render(gradient=", ".join(map(to_hex, colours))),
        script=environment.get_template("cards.js").render(),
    )


def _described(card: Card) -> dict[str, Any]:
    """What the template shows of a card."""
    low, high = card.scale
    activation = number(card.optimized.activation)
    return {
        "address": card.address,
        "site": card.site,
        "model": card.model,
        "activation": activation,
        "problem": card.optimized.problem,
        "origin": origin(card),
        "scores": scores(card),
        "optimized": _picture(
            _resized(to_pil(card.optimized.image), RENDER),
            f"Image optimized to excite {card.address}, activation {activation}",
        ),
        "photos": [_described_photo(card, photo) for photo in card.photos],
        "low": number(low),
        "high": number(high),
        "histogram": HistogramLayout.of(card),
        "histogram_in_words": _histogram_in_words(card),
        "images": candidates(card),
        "small_print": small_print(card),
    }


def _described_photo(card: Card, photo: Photo) -> dict[str, Any]:
    row, column = photo.peak
    name, activation = photo_name(photo, 255), number(photo.activation)
    peak = f"row {row + 1}, column {column + 1}"
    low, high = (number(float(value)) for value in (photo.patch_map.min(), photo.patch_map.max()))
    over = laid_over(photo.pixels, card.relative_heat(photo))
    return {
        "name": name,
        "activation": activation,
        "tiles": [
            _picture(_boxed(photo.pixels, photo), f"Photo {name}, activation {activation}"),
            _picture(_boxed(over, photo), f"Patch map over {name}, from {low} to {high}, the largest at {peak}"),
            _picture(_resized(to_pil(photo.crop), TILE), f"Crop of {name} around the peak at {peak}"),
        ],
    }


def _boxed(pixels: NDArray[np.float32], photo: Photo) -> Image.Image:
    """The image in the page's size, with the box around the photo's peak."""
    image = _resized(to_pil(pixels), TILE)
    factor = image.width / pixels.shape[1]
    rows, columns = photo.box
    left, top, right, bottom = (round(factor * edge) for edge in (columns.start, rows.start, columns.stop, rows.stop))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, right - 1, bottom - 1), outline="black", width=3)
    draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline="white")
    return image


def _resized(image: Image.Image, side: int) -> Image.Image:
    factor = side / max(image.size)
    return image.resize(
        (max(1, round(factor * image.width)), max(1, round(factor * image.height))), Image.Resampling.BICUBIC
    )


def _picture(image: Image.Image, alt: str) -> Picture:
    file = BytesIO()
    image.save(file, format="WEBP", quality=QUALITY, method=6)
    return Picture(f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}", *image.size, alt)


def _histogram_in_words(card: Card) -> str:
    edges, counts = card.histogram.edges, card.histogram.counts
    filled = counts.nonzero()[0]
    low, high = (
        (number(float(edges[edge])) for edge in (filled[0], filled[-1] + 1)) if len(filled) else ("none", "none")
    )
    photos = ", ".join(number(photo.activation) for photo in card.photos)
    return (
        f"Histogram of the activation on {candidates(card)}, from {low} to {high}; "
        f"on the photos {photos}; on the optimized image {number(card.optimized.activation)}"
    )


def _csp_hash(content: str) -> str:
    """How a content security policy names an inline style or script."""
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"
