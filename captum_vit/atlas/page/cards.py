"""Cards as the page reads them, some at a time: nothing of a card is loaded before one near it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vit.atlas.page.records import Card, Photo, Sheet
from captum_vit.atlas.page.scripts import number
from captum_vit.errors import AtlasPageError
from captum_vit.storage.files import shown

# Few enough that a card opens at once, and many enough that stepping through neighbours seldom waits.
CARDS_IN_A_FILE = 32

# Of patch maps: "0" to "o".
FIRST_LETTER, LETTERS = ord("0"), 64


def described(first: int, cards: Sequence[Card]) -> dict[str, Any]:
    """Cards that follow each other, the first of them the neuron with the number ``first``."""
    sheets: dict[Sheet, int] = {}
    each = [_described(first + offset, card, sheets) for offset, card in enumerate(cards)]
    return {"first": first, "sheets": [sheet_of(sheet) for sheet in sheets], "cards": each}


def sheet_of(sheet: Sheet) -> list[str | int]:
    """A sheet of images: path, columns, rows."""
    return [sheet.path, sheet.columns, sheet.rows]


def _described(index: int, card: Card, sheets: dict[Sheet, int]) -> dict[str, Any]:
    shapes = {photo.patch_map.shape for photo in (*card.photos, *card.relevant) if photo.patch_map is not None}
    if len(shapes) > 1:
        raise AtlasPageError(
            f"the patch maps of neuron {index} have several shapes, {sorted(shapes)}; one was expected"
        )
    values: dict[str, Any] = {
        "photos": [_photo(photo, sheets) for photo in card.photos],
        "relevant": [_photo(photo, sheets) for photo in card.relevant],
        "grid": next(iter(shapes), None),
        "scale": [number(end) for end in card.scale],
        "counts": _filled(card),
        "problem": card.problem and shown(card.problem),
        "startedFrom": card.started_from and shown(card.started_from),
        "words": [(shown(word), number(score)) for word, score in card.words],
        "wordThreshold": number(card.word_threshold),
        "classes": [(shown(label), int(count)) for label, count in card.classes],
        "settings": [(shown(name), shown(value)) for name, value in card.settings.items()],
    }
    return _without_empty(values)


def _photo(photo: Photo, sheets: dict[Sheet, int]) -> dict[str, Any]:
    return _without_empty(
        {
            "name": shown(photo.name),
            "activation": number(photo.activation),
            "relevance": number(photo.relevance),
            "label": photo.label and shown(photo.label),
            "sheet": sheets.setdefault(photo.sheet, len(sheets)),
            "tile": int(photo.tile),
            **({} if photo.patch_map is None else _map(photo.patch_map)),
        }
    )


def _map(levels: NDArray[np.uint8]) -> dict[str, Any]:
    """A patch map as a letter for each cell, from the first for none to the last for all, and the cell of its peak.

    The eye tells no more colours in one that is smoothed, and letters of few kinds are compressed well.
    """
    letters = np.round(levels / 255 * (LETTERS - 1)).astype(np.uint8) + FIRST_LETTER
    return {"map": letters.tobytes().decode("ascii"), "peak": int(levels.argmax())}


def _filled(card: Card) -> list[Any] | None:
    """The histogram from its first bin with an image to its last: the number of the first, and the counts."""
    if card.counts is None or not np.any(card.counts):
        return None
    filled = np.flatnonzero(card.counts)
    return [int(filled[0]), np.asarray(card.counts)[filled[0] : filled[-1] + 1].tolist()]


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != []}
