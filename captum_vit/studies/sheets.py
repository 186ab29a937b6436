"""Contact sheets of studies of renders: the pictures behind the numbers, from a study and the renders that it kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_vit.cards.canvas import FAINT, INK, Canvas, fitting
from captum_vit.errors import StudyError
from captum_vit.optvis.keeping import kept
from captum_vit.probes.address import Address
from captum_vit.studies.attention import AGREEMENT, KINDS
from captum_vit.studies.depth import LEARNED, RANDOM
from captum_vit.studies.rendered import ALL_SITES, renders_folder
from captum_vit.studies.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Layout in inches.
_IMAGE, _GAP, _CAPTION, _LABEL, _HEAD, _MARGIN, _BETWEEN = 0.86, 0.05, 0.16, 1.75, 0.62, 0.2, 0.35

Pixels = NDArray[np.uint8]


class _Cell(NamedTuple):
    """An image of a sheet, and the words below it."""

    image: Pixels
    words: str


def attention_sheet(study: Study, model: str, keep: str | Path) -> Figure:
    """The renders of a study of attention, after Figure 4 of Ghiasi et al. (2022): a row for each kind and block.

    Under each image stand its activation over the strongest photo's, and its agreement.

    Parameters
    ----------
    study
        From :func:`captum_vit.studies.attention`, made with ``keep``.
    model
        Which of its models.
    keep
        Its folder of results.

    Raises
    ------
    StudyError
        There is no such model in the study, or a render is not in the folder.
    """
    facts = _facts(study, model)
    images = _images(renders_folder(keep, model), facts["renders"])
    rows = []
    for row in sorted(_of_sites(study, model), key=lambda row: KINDS.index(str(row["kind"]))):
        cells = []
        for neuron in facts["neurons"]:
            if Address(neuron["neuron"]).site == row["site"]:
                cells.append(_Cell(_image(images, neuron["neuron"]), _scores(neuron)))
        rows.append((f"{row['kind']}, {row['depth']}\n{row['site']}", [cells]))
    return _drawn(model, "below: activation over the strongest photo's, and agreement", [""], rows)


def depth_sheet(study: Study, model: str, keep: str | Path) -> Figure:
    """The renders of a study of depth: a row for each site, to the right at random weights if there was a control.

    Under each image stands its frequency in cycles per shorter side. Parameters and errors are those of
    :func:`attention_sheet`.
    """
    facts = _facts(study, model)
    weights = [each for each in (LEARNED, RANDOM) if each in facts["neurons"]]
    images = {each: _images(renders_folder(keep, model, each), facts["renders"][each]) for each in weights}
    rows = []
    for site in dict.fromkeys(row["site"] for row in _of_sites(study, model)):
        parts = []
        for each in weights:
            of_site = [neuron for neuron in facts["neurons"][each] if Address(neuron["neuron"]).site == site]
            parts.append(
                [
                    _Cell(
                        _image(images[each], neuron["neuron"]),
                        "means little" if neuron["problem"] else f"{neuron['frequency'] or 0:.1f}",
                    )
                    for neuron in of_site
                ]
            )
        rows.append((str(site), parts))
    titles = [f"{each} weights" for each in weights]
    return _drawn(model, "below: frequency, cycles per shorter side", titles, rows)


def _facts(study: Study, model: str) -> dict[str, Any]:
    if model not in study.models:
        raise StudyError(f"no model {model} in the study; it has {', '.join(study.models)}")
    return dict(study.models[model])


def _scores(neuron: Mapping[str, Any]) -> str:
    """Activation of a render over the strongest photo's, and agreement."""
    if neuron["problem"]:
        return "means little"
    times = f"{neuron['activation'] / neuron['strongest photo']:.2g}x"
    return times if neuron[AGREEMENT] is None else f"{times}  {neuron[AGREEMENT]:.2f}"


def _of_sites(study: Study, model: str) -> list[Row]:
    return [row for row in study.rows if row["model"] == model and row["site"] != ALL_SITES]


def _images(folder: Path | None, settings: Mapping[str, Any]) -> dict[str, Path]:
    """Where the renders of a plan are, by neuron."""
    assert folder is not None
    return {str(record["neuron"]): path for path, record in kept(folder, settings)}


def _image(images: Mapping[str, Path], neuron: str) -> Pixels:
    try:
        with Image.open(images[neuron]) as image:
            return np.asarray(image.convert("RGB"))
    except (KeyError, OSError, SyntaxError) as error:
        raise StudyError(
            f"the render of {neuron} is not in the study's folder any more; remove the study's .json and make it again"
        ) from error


def _drawn(
    model: str, small_print: str, titles: Sequence[str], rows: Sequence[tuple[str, Sequence[Sequence[_Cell]]]]
) -> Figure:
    """Rows of images, each with its name to the left, in one or more parts with a title each."""
    from matplotlib.figure import Figure

    wide, tall = fitting(rows[0][1][0][0].image, _IMAGE)
    counts = [max(len(parts[place]) for _, parts in rows) for place in range(len(titles))]
    lefts = [_MARGIN + _LABEL]
    for count in counts:
        lefts.append(lefts[-1] + count * (wide + _GAP) + _BETWEEN)
    width = lefts[-1] - _BETWEEN + _MARGIN
    height = _HEAD + len(rows) * (tall + _CAPTION + _GAP) + _MARGIN
    canvas = Canvas(Figure(figsize=(width, height), facecolor="white"))
    canvas.text(_MARGIN, height - 0.32, model, 12, weight="bold")
    canvas.text(width - _MARGIN, height - 0.3, small_print, 7, FAINT, ha="right")
    for left, title in zip(lefts, titles, strict=False):
        canvas.text(left, height - _HEAD + 0.06, title, 8.5, FAINT)
    top = height - _HEAD
    for name, parts in rows:
        canvas.text(_MARGIN, top - tall / 2, name, 8, INK, va="center")
        for left, cells in zip(lefts, parts, strict=False):
            for place, cell in enumerate(cells):
                at = left + place * (wide + _GAP)
                canvas.image(at, top - tall, wide, tall, cell.image)
                canvas.text(at, top - tall - 0.11, cell.words, 6.5, FAINT)
        top -= tall + _CAPTION + _GAP
    return canvas.figure
