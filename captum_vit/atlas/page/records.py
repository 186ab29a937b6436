"""What the page of an atlas shows, as plain records: whoever makes an atlas fills them, and the page knows no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from captum_vit.errors import AtlasPageError

WHOLE = (0.0, 0.0, 1.0, 1.0)


class State(IntEnum):
    """What came of a neuron's render."""

    RENDERED = 0
    SILENCED = 1  # the render ended where the activation is not above zero, or the neuron is dead
    PROBLEM = 2  # another problem, told by the card
    MISSING = 3  # there is no render, as it is not done yet or its piece failed
    ACCENTUATED = 4  # no random start excites the neuron, and the render started from a photo


@dataclass(frozen=True)
class Site:
    """A site, in the order of the forward pass.

    Attributes
    ----------
    name
        As the model calls it, ``"blocks.5"``.
    units
        How many the model has there, in the atlas or not.
    extent
        Left, top, right and bottom of the area that the cells of the patch grid tile evenly, as parts of the photo's
        width and height. All of it for most models; ``centre ± spacing / 2`` of the outermost cells in general.
    """

    name: str
    units: int
    extent: tuple[float, float, float, float] = WHOLE


@dataclass(frozen=True)
class Sheet:
    """Images of one size in one file, in rows of equal length; a file of one image is a sheet of one tile.

    Attributes
    ----------
    path
        The file, relative to the atlas' folder, with forward slashes.
    columns, rows
        Tiles across and down. Tiles are counted row by row.
    """

    path: str
    columns: int = 1
    rows: int = 1


@dataclass(frozen=True)
class Neurons:
    """A row a neuron of the atlas, by site in the order of the forward pass and then by unit; N in all.

    Attributes
    ----------
    site
        Index into the model's sites, integers of shape ``(N,)``.
    unit
        Shape ``(N,)``.
    live
        Whether a photo excites it: shape ``(N,)``.
    natural_maximum
        Activation on the strongest photo, shape ``(N,)``; NaN where there is none.
    activation
        Of the render, shape ``(N,)``; NaN where there is none.
    ratio, worst_ratio
        The render's activation, and that of its worst view, over the strongest photo's; NaN where it cannot be told.
    state
        What came of the render, values of :class:`State`, shape ``(N,)``.
    sheet, tile
        Where the render is: index into the model's sheets, and which of its tiles; shape ``(N,)``. Sheet -1: nowhere.
    agreement
        How well the render's photos and others agree, in [0, 1], where that was measured.
    word, word_score
        The nearest word above the threshold, None or "" where there is none; no column where words were not sought.
    top_class
        The class that most of its photos are of; no column where images have no labels.
    """

    site: NDArray[np.integer]
    unit: NDArray[np.integer]
    live: NDArray[np.bool_]
    natural_maximum: NDArray[np.floating]
    activation: NDArray[np.floating]
    ratio: NDArray[np.floating]
    worst_ratio: NDArray[np.floating]
    state: NDArray[np.integer]
    sheet: NDArray[np.integer]
    tile: NDArray[np.integer]
    agreement: NDArray[np.floating] | None = None
    word: Sequence[str | None] | None = None
    word_score: NDArray[np.floating] | None = None
    top_class: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return len(self.unit)

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in vars(self).items() if column is not None}
        if len(set(lengths.values())) > 1:
            raise AtlasPageError(f"columns of different lengths, one entry a neuron is needed: {lengths}")
        place = np.asarray(self.site, dtype=np.int64) << 32 | np.asarray(self.unit, dtype=np.int64)
        if (np.diff(place) <= 0).any():
            raise AtlasPageError("neurons must come by site, in the order of the sites, then by unit, each once")


@dataclass(frozen=True)
class Photo:
    """One of the photos on a card.

    Attributes
    ----------
    name
        Of its file, or whatever tells it from others.
    activation
        The neuron's, on this photo.
    sheet, tile
        Its thumbnail: all that the model saw of the photo.
    patch_map
        Activation over the patch grid, ``(rows, columns)``, uint8: 0 is the low and 255 the high end of the card's
        scale. None where it is not kept.
    label
        Its class, where images have labels.
    relevance
        What the neuron contributes to the output by it, where that was measured.
    """

    name: str
    activation: float
    sheet: Sheet
    tile: int = 0
    patch_map: NDArray[np.uint8] | None = field(default=None, repr=False)
    label: str | None = None
    relevance: float | None = None


@dataclass(frozen=True)
class Card:
    """What is shown of one neuron beyond its columns; read only when somebody looks at it.

    Attributes
    ----------
    photos
        By activation, best first.
    relevant
        By relevance, best first; empty where photos were not ranked by it.
    scale
        Activation at the values 0 and 255 of the patch maps: one scale for all photos of the card.
    counts
        Number of images in each bin of the model's ``edges``, shape ``(bins,)``; None where they were not counted.
    problem
        What went wrong with the render, in words.
    started_from
        Name of the photo from which the render started; None if it started at random.
    words
        The nearest words and their scores, best first, only those above the threshold.
    word_threshold
        The score that chance reaches, from the null distribution.
    classes
        The classes of its photos and how many are of each, most first.
    settings
        What is true of this render alone, beside the model's ``settings``: names and values, in words.
    """

    photos: Sequence[Photo] = ()
    relevant: Sequence[Photo] = ()
    scale: tuple[float, float] = (0.0, 1.0)
    counts: NDArray[np.integer] | None = field(default=None, repr=False)
    problem: str | None = None
    started_from: str | None = None
    words: Sequence[tuple[str, float]] = ()
    word_threshold: float | None = None
    classes: Sequence[tuple[str, int]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageModel:
    """All that the page of an atlas shows.

    Attributes
    ----------
    title
        Its heading, such as the model's name.
    sites
        Those of the atlas, in the order of the forward pass.
    neurons
        The columns.
    sheets
        Of renders, which ``neurons.sheet`` counts.
    cards
        One a neuron, in the order of the columns. They are taken one after another and not kept, so that a generator
        needs the memory of one piece of work only.
    images
        How many images were ranked.
    edges
        Of the histograms' bins, ``(bins + 1,)``; None where there are no histograms.
    settings
        What repeats the atlas: names and values, in words. Recipe, steps, size, seed, versions …
    render_size, photo_size
        Height and width in pixels of a render's tile and of a thumbnail.
    """

    title: str
    sites: Sequence[Site]
    neurons: Neurons
    sheets: Sequence[Sheet]
    cards: Iterable[Card]
    images: int
    edges: NDArray[np.floating] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    render_size: tuple[int, int] = (112, 112)
    photo_size: tuple[int, int] = (112, 112)
