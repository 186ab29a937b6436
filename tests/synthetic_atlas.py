"""An atlas of made-up neurons, of any size, for the page's tests and benchmark: cheap pictures, plausible numbers."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from captum_vit.atlas.page.records import Card, Neurons, PageModel, Photo, Sheet, Site, State
from captum_vit.ranking.topk import EDGES

WORDS = ("dog", "wheel", "grass", "sky", "text", "stripes", "eye", "brick", "water", "leaf")
CLASSES = ("tabby cat", "daisy", "espresso", "alp", "missile")
SIDE, COLUMNS, ROWS = 112, 4, 4


def synthetic_atlas(
    out: Path, sites: int = 3, units: int = 40, *, photos: int = 4, pictures: int = 6, named: bool = True, seed: int = 0
) -> PageModel:
    """Write pictures into a folder, and tell of an atlas that shows them.

    ``pictures`` sheets of renders are drawn; every sheet of 16 neurons has a file of its own, but the same bytes as
    another.
    """
    random = np.random.default_rng(seed)
    count = sites * units
    natural = np.where(random.random(count) < 0.9, random.gamma(2.0, 0.6, count), -0.02)
    ratio = np.where(natural > 0, random.lognormal(0.4, 0.5, count), np.nan)
    state = np.where(random.random(count) < 0.04, State.SILENCED, State.RENDERED)
    number = np.arange(count)
    site, unit = number // units, number % units
    per_sheet = COLUMNS * ROWS
    sheets_a_site = -(-units // per_sheet)
    contents = [_encoded(_sheet(random, COLUMNS * SIDE, ROWS * SIDE)) for _ in range(pictures)]
    sheets = [
        Sheet(f"renders/blocks.{s}/{first}.webp", COLUMNS, ROWS)
        for s in range(sites)
        for first in range(0, units, per_sheet)
    ]
    for index, sheet in enumerate(sheets):
        _put(out / sheet.path, contents[index % pictures])
    thumbnails = [Sheet(f"photos/{index}.webp") for index in range(24)]
    for sheet in thumbnails:
        _put(out / sheet.path, _encoded(_sheet(random, SIDE, SIDE)))
    neurons = Neurons(
        site=site,
        unit=unit,
        live=natural > 0,
        natural_maximum=natural,
        activation=np.where(state == State.SILENCED, -0.01, np.nan_to_num(natural * ratio)),
        ratio=np.where(state == State.SILENCED, np.nan, ratio),
        worst_ratio=np.where(state == State.SILENCED, np.nan, ratio * random.uniform(0.3, 1, count)),
        state=state,
        sheet=site * sheets_a_site + unit // per_sheet,
        tile=unit % per_sheet,
        agreement=random.random(count),
        word=[WORDS[i] if i < len(WORDS) else None for i in random.integers(0, 14, count)] if named else None,
        word_score=random.random(count) if named else None,
        top_class=[CLASSES[i] for i in random.integers(0, len(CLASSES), count)] if named else None,
    )
    return PageModel(
        title="Synthetic ViT",
        sites=[Site(f"blocks.{s}", units) for s in range(sites)],
        neurons=neurons,
        sheets=sheets,
        cards=_cards(neurons, thumbnails, photos, random),
        images=50_000,
        edges=EDGES,
        settings={"Model": "synthetic_vit", "Recipe": "steady, 256 steps, seed 0", "Size": "112 px"},
    )


def _cards(neurons: Neurons, thumbnails: list[Sheet], photos: int, random: np.random.Generator) -> Iterator[Card]:
    rows, columns = np.mgrid[:14, :14]
    for index in range(len(neurons)):
        strongest = float(neurons.natural_maximum[index])
        counts = np.histogram(random.normal(0, 0.1, 400), EDGES)[0]
        best = []
        for rank in range(photos):
            row, column = random.uniform(0, 14, 2)
            bump = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
            best.append(
                Photo(
                    name=f"photo {rank}.jpg",
                    activation=strongest * 0.9**rank,
                    sheet=thumbnails[int(random.integers(len(thumbnails)))],
                    patch_map=(255 * bump).astype(np.uint8),
                    label=None if neurons.top_class is None else CLASSES[int(random.integers(len(CLASSES)))],
                )
            )
        word = neurons.word[index] if neurons.word is not None else None
        yield Card(
            photos=best,
            scale=(-0.1, max(0.1, 3 * strongest)),
            counts=counts,
            problem="silenced, or not yet excited" if neurons.state[index] == State.SILENCED else None,
            words=[(word, 0.31), ("other", 0.29)] if word else [],
            word_threshold=0.27 if word else None,
            classes=[] if neurons.top_class is None else [(str(neurons.top_class[index]), 3)],
            settings={"Started from": "random"},
        )


def _sheet(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Blurred noise under a circle in the middle of every tile, so that a tile out of place is seen."""
    noise = random.integers(0, 255, (height // 14, width // 14, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for top in range(0, height, SIDE):
        for left in range(0, width, SIDE):
            colour = tuple(int(value) for value in random.integers(0, 255, 3))
            draw.ellipse((left + 36, top + 36, left + 76, top + 76), fill=colour)
    return image


def _encoded(image: Image.Image) -> bytes:
    encoded = BytesIO()
    image.save(encoded, "WEBP", quality=75)
    return encoded.getvalue()


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
