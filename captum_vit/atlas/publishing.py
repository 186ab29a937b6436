"""From an atlas' files to its page: the columns of all neurons, and their cards one after another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vit.atlas.classes import Labels
from captum_vit.atlas.gathered import GatheredMaps, Gathering, sheet_of
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.page.records import Card, Neurons, PageModel, Photo, Sheet, Site, State
from captum_vit.atlas.page.writing import write_page
from captum_vit.atlas.pieces import merged_ranking, ranges
from captum_vit.atlas.table import FILE as TABLE
from captum_vit.atlas.tables import reading
from captum_vit.ranking.measure import ACTIVATION
from captum_vit.ranking.result import TopImage, TopImages
from captum_vit.ranking.topk import EDGES

# Of the colours, in activation: a dead neuron's maps differ by rounding errors only.
_NARROWEST_SCALE = 0.01


def publish(folder: Path, manifest: Manifest) -> None:
    """Write the page of an atlas whose table is written.

    Raises
    ------
    AtlasError, RankingFileError
        A file is missing or damaged.
    OutputError
        A file cannot be written.
    """
    with reading(folder / TABLE) as file:
        table = file.read()
    with tempfile.TemporaryDirectory() as scratch:
        sheets = _render_sheets(manifest)
        model = PageModel(
            title=str(manifest.model["origin"].get("name", manifest.model["model"])),
            sites=[Site(site.name, site.units, site.extent) for site in manifest.sites],
            neurons=_neurons(table, {sheet.path: number for number, sheet in enumerate(sheets)}),
            sheets=sheets,
            cards=_cards(folder, manifest, table, Path(scratch)),
            images=manifest.images.count,
            edges=EDGES,
            settings=_settings(manifest),
            render_size=manifest.pictures.render_size,
            photo_size=manifest.pictures.photo_size,
        )
        write_page(folder, model)


# --- columns


def _neurons(table: Any, sheets: Mapping[str, int]) -> Neurons:
    def numbers(name: str) -> NDArray[np.float32]:
        return np.array([np.nan if value is None else value for value in table[name].to_pylist()], dtype=np.float32)

    def texts(name: str) -> list[Any] | None:
        return table[name].to_pylist() if table[name].null_count < len(table) else None

    paths, classes = table["sheet"].to_pylist(), texts("classes")
    states = zip(*(table[name].to_pylist() for name in ("sheet", "silenced", "problem", "started_from")), strict=True)
    return Neurons(
        site=table["depth"].to_numpy(),
        unit=table["unit"].to_numpy(),
        live=np.array(table["live"].to_pylist(), dtype=bool),
        natural_maximum=numbers("natural_maximum"),
        activation=numbers("activation"),
        ratio=numbers("ratio"),
        worst_ratio=numbers("worst_ratio"),
        state=np.array([_state(*state) for state in states], dtype=np.int64),
        sheet=np.array([-1 if path is None else sheets[path] for path in paths], dtype=np.int64),
        tile=np.array([tile or 0 for tile in table["tile"].to_pylist()], dtype=np.int64),
        agreement=None if texts("agreement") is None else numbers("agreement"),
        word=texts("word"),
        word_score=None if texts("word") is None else numbers("word_score"),
        top_class=None if classes is None else [found[0] if found else None for found in classes],
    )


def _state(sheet: str | None, silenced: bool, problem: str | None, started_from: str | None) -> State:
    if sheet is None:
        return State.MISSING
    if started_from is not None:
        return State.ACCENTUATED
    if silenced:
        return State.SILENCED
    return State.RENDERED if problem is None else State.PROBLEM


def _render_sheets(manifest: Manifest) -> list[Sheet]:
    pictures = manifest.pictures
    return [
        sheet_of(piece.sheet(number), last - first + 1, pictures.columns)
        for piece in manifest.render_pieces()
        for number, (first, last) in enumerate(ranges(piece.amount, pictures.tiles))
    ]


# --- cards


def _cards(folder: Path, manifest: Manifest, table: Any, scratch: Path) -> Iterator[Card]:
    """The cards, by site; rows of the table are in memory for one site at a time, and maps for one neuron."""
    rankings = {by: TopImages.load(folder / merged_ranking(by)) for by in manifest.rankings}
    labels, gathering = Labels.of(folder, manifest), Gathering(folder, manifest, scratch)
    begin = 0
    for site in manifest.sites:
        units = manifest.units(site.name)
        rows = table.slice(begin, len(units)).to_pylist()
        begin += len(units)
        maps = {by: gathering.of(by, site.name) for by in rankings} if units else {}
        for place, row in enumerate(rows):
            scale = _scale(maps.values(), place)
            photos = {
                by: [
                    photo
                    for rank, image in enumerate(ranking.best(row["address"]))
                    if (photo := _photo(image, maps[by], (place, rank), scale, gathering, labels)) is not None
                ]
                for by, ranking in rankings.items()
            }
            yield Card(
                photos=photos[ACTIVATION],
                relevant=next((found for by, found in photos.items() if by != ACTIVATION), []),
                scale=scale,
                counts=rankings[ACTIVATION].histogram(row["address"]).counts,
                problem=row["problem"],
                started_from=row["started_from"],
                words=[(row["word"], row["word_score"])] if row["word"] else [],
                word_threshold=row["word_threshold"],
                classes=list(zip(row["classes"] or (), row["class_counts"] or (), strict=True)),
                settings={"made by": row["made_by"]} if row["made_by"] else {},
            )


def _scale(maps: Iterable[GatheredMaps], place: int) -> tuple[float, float]:
    """Smallest and largest activation of a patch over a neuron's photos, which share one scale of colours."""
    ends = np.concatenate([np.concatenate((each.low[place], each.high[place])) for each in maps])
    ends = ends[np.isfinite(ends)]
    low, high = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
    return low, max(high, low + _NARROWEST_SCALE)


def _photo(
    image: TopImage,
    maps: GatheredMaps,
    at: tuple[int, int],
    scale: tuple[float, float],
    gathering: Gathering,
    labels: Labels,
) -> Photo | None:
    """A photo of a card; None while its piece is not done."""
    if maps.piece[at] < 0:
        return None
    low, high = scale
    values = maps.low[at] + maps.levels[at] / np.float32(255) * (maps.high[at] - maps.low[at])
    is_relevant = image.by != ACTIVATION
    return Photo(
        name=image.path,
        activation=float(values.mean()) if is_relevant else image.value,
        relevance=image.value if is_relevant else None,
        sheet=gathering.sheet(int(maps.piece[at]), int(maps.sheet[at])),
        tile=int(maps.tile[at]),
        patch_map=((values - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8),
        label=labels[image.index],
    )


def _settings(manifest: Manifest) -> dict[str, str]:
    """What repeats the atlas, in words."""
    renders = manifest.renders
    return {
        "model": f"{manifest.model['model']}, weights {manifest.model['weights_sha256'][:12]}…",
        "recipe": f"{renders['recipe']}, {renders['steps']} steps",
        "rendered at": f"{' × '.join(map(str, renders['size']))} pixels in {renders['dtype']}, seed {renders['seed']}",
        "photos": f"{manifest.images.count:,}, by {' and by '.join(manifest.rankings)}",
        "activation": f"{manifest.rankings[ACTIVATION]} over the patches",
        "versions": ", ".join(f"{name} {version}" for name, version in renders["versions"].items()),
    }
