"""The site of an atlas, written into its folder: the page, its scripts and style, and the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import matplotlib
import numpy as np

from captum_vit.atlas.page import cards, columns
from captum_vit.atlas.page.records import PageModel
from captum_vit.atlas.page.scripts import as_script, base64, number, packed
from captum_vit.errors import AtlasPageError
from captum_vit.plots import COLORMAP
from captum_vit.storage.files import check_folder, replacing, shown

# Of the data, not of the atlas: a page that is asked to compare itself with one of another version says so.
VERSION = 2

# In the order in which they build on one another.
SCRIPTS = (
    "elements.js",
    "numbers.js",
    "pictures.js",
    "store.js",
    "route.js",
    "order.js",
    "sites.js",
    "wall.js",
    "histogram.js",
    "photos.js",
    "card.js",
    "compare.js",
    "keyboard.js",
    "main.js",
)

_T = TypeVar("_T")


def write_page(out: Path, model: PageModel) -> None:
    """Write the page of an atlas: ``index.html`` and ``site/`` in its folder, over those of an earlier time.

    It opens from the disk and from any static server. Its security policy lets it load nothing but files that lie
    beside it.

    Parameters
    ----------
    out
        The atlas' folder, to which the paths of all sheets are relative. Made if it is not there.
    model
        What to show.

    Raises
    ------
    AtlasPageError
        The records do not fit together.
    OutputError
        A file cannot be written.
    """
    data = out / "site" / "data"
    check_folder(data / "cards")
    _write(data / "neurons.js", as_script(columns.described(model)))
    written = 0
    for count, some in enumerate(_some_at_a_time(model.cards, cards.CARDS_IN_A_FILE)):
        _write(data / "cards" / f"{count}.js", as_script(packed(cards.described(written, some))))
        written += len(some)
    if written != len(model.neurons):
        raise AtlasPageError(f"{written} cards came of {len(model.neurons)} neurons; one each is needed")
    _remove_what_an_atlas_of_more_neurons_left(data / "cards", written)
    _write(data / "atlas.js", as_script(_described(model)))
    for script in (*SCRIPTS, "atlas.css"):
        _write(out / "site" / script, (files(__package__) / "static" / script).read_text(encoding="utf-8"))
    _write(out / "index.html", _index(model))


def _described(model: PageModel) -> dict[str, Any]:
    """What is true of the atlas as a whole."""
    colours = matplotlib.colormaps[COLORMAP](np.arange(256) / 255)[:, :3]
    return {
        "version": VERSION,
        "title": shown(model.title),
        "images": int(model.images),
        "sites": [
            {"name": shown(site.name), "units": int(site.units), "extent": list(map(number, site.extent))}
            for site in model.sites
        ],
        "sheets": [cards.sheet_of(sheet) for sheet in model.sheets],
        "cardsInAFile": cards.CARDS_IN_A_FILE,
        "edges": None if model.edges is None else [number(float(edge)) for edge in model.edges],
        "settings": [(shown(name), shown(value)) for name, value in model.settings.items()],
        "renderAspect": model.render_size[1] / model.render_size[0],
        "photoAspect": model.photo_size[1] / model.photo_size[0],
        "colours": base64((255 * colours).round().astype(np.uint8)),
    }


def _index(model: PageModel) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("captum_vit.atlas.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("index.html").render(title=shown(model.title), scripts=SCRIPTS)


def _some_at_a_time(values: Iterable[_T], count: int) -> Iterator[list[_T]]:
    remaining = iter(values)
    while some := list(islice(remaining, count)):
        yield some


def _remove_what_an_atlas_of_more_neurons_left(folder: Path, neurons: int) -> None:
    for file in folder.glob("*.js"):
        if file.stem.isdigit() and int(file.stem) * cards.CARDS_IN_A_FILE >= neurons:
            file.unlink()


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
