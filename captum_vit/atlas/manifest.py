"""The manifest of an atlas: all that its files depend on, decided before the first of them is made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from captum_vit.atlas.pieces import (
    NamePiece,
    PhotoPiece,
    Piece,
    RankingPiece,
    RenderPiece,
    Runs,
    in_pieces,
    kind,
    ranges,
    units_of,
)
from captum_vit.errors import AddressError, AtlasError
from captum_vit.optvis.plan import PlanSettings
from captum_vit.probes.address import Address
from captum_vit.probes.grid import Size
from captum_vit.probes.kinds import kinds_of
from captum_vit.storage.files import replacing

FILE = "manifest.json"
FORMAT, VERSION = "captum-vit atlas", 2

# What may differ where an atlas goes on: on another machine, perhaps after an update.
_MAY_DIFFER = ("versions", "device")


@dataclass(frozen=True)
class SiteEntry:
    """A site of the model, whether its neurons are in the atlas or not.

    Attributes
    ----------
    name
        As the model calls it, ``"blocks.5"``.
    kind
        What its channels are, one of :data:`captum_vit.probes.kinds.KINDS`.
    units
        How many it has.
    grid
        Rows and columns of its patch maps.
    extent
        Left, top, right and bottom of the area that the cells tile evenly, as parts of the photo's width and height.
    """

    name: str
    kind: str
    units: int
    grid: Size
    extent: tuple[float, float, float, float]


@dataclass(frozen=True)
class Images:
    """The images that the neurons were shown.

    Attributes
    ----------
    count, sha256
        How many, and the checksum of their list.
    labelled
        Whether each has a label, the folder that it is in.
    """

    count: int
    sha256: str
    labelled: bool


@dataclass(frozen=True)
class Work:
    """How the work is divided, on which the last bits of results depend.

    Attributes
    ----------
    threads
        Threads with which a worker computes on a CPU.
    images_a_piece, images_a_batch
        Of the rankings, and of the photos.
    units_a_piece, units_a_batch
        Of the renders.
    """

    threads: int
    images_a_piece: int
    images_a_batch: int
    units_a_piece: int
    units_a_batch: int


@dataclass(frozen=True)
class Pictures:
    """How renders and photos are kept: as tiles of sheets in the format WebP.

    Sheets are small: a page that shows one tile decodes all of its sheet.

    Attributes
    ----------
    render_size, photo_size
        Height and width of a tile in pixels.
    render_quality, photo_quality
        Of WebP, 0 to 100.
    tiles
        Renders or thumbnails in a sheet, at most.
    """

    render_size: Size
    photo_size: Size
    render_quality: int = 75
    photo_quality: int = 70
    tiles: int = 16

    @property
    def columns(self) -> int:
        """Tiles in a row of a sheet: about as many as there are rows."""
        return math.ceil(math.sqrt(self.tiles))


@dataclass(frozen=True)
class Manifest:
    """What an atlas is of, and how it is made.

    Attributes
    ----------
    model
        Its name, class, weights' checksum and preprocessing.
    sites
        All that it has, in the order of the forward pass.
    images
        What it was shown.
    k
        How many images of each neuron are kept.
    rankings
        What images are ranked by, and the reduction over the patches.
    plan
        What the plan of the renders is resolved from: recipe, steps, size, seed and dtype.
    renders
        All that it is (:attr:`captum_vit.optvis.plan.RenderPlan.settings`).
    pictures, work
        See there.
    parts
        The neurons, by site in pieces, and a part for each time that some were added.
    """

    model: Mapping[str, Any]
    sites: tuple[SiteEntry, ...]
    images: Images
    k: int
    rankings: Mapping[str, str]
    plan: Mapping[str, Any]
    renders: Mapping[str, Any]
    pictures: Pictures
    work: Work
    parts: tuple[Mapping[str, tuple[Runs, ...]], ...] = ()

    def save(self, folder: Path) -> None:
        """Write it into an atlas; what was there is replaced at once.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        with replacing(folder / FILE) as partial:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of an atlas.

        Raises
        ------
        AtlasError
            There is none, or it is damaged or of another format.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found, version = content.pop("format"), content.pop("version")
        except OSError as error:
            raise AtlasError(f"{folder} is no atlas: it has no {FILE} ({error.strerror or error})") from error
        except (ValueError, KeyError, AttributeError) as error:
            raise AtlasError(f"{path} is damaged or of no atlas; make the atlas anew in another folder") from error
        if found != FORMAT or not isinstance(version, int):
            raise AtlasError(f'{path} has the format "{found}", and an atlas has "{FORMAT}"')
        if version > VERSION:
            raise AtlasError(
                f"{folder} is an atlas of version {version}, and this release reads version {VERSION}; update "
                "captum-vit"
            )
        if version < VERSION:
            raise AtlasError(
                f"{folder} is an atlas of version {version}, and this release reads version {VERSION}; make it anew in "
                "another folder, or read it with the release that made it"
            )
        try:
            return cls._read(content)
        except (KeyError, TypeError, ValueError) as error:
            raise AtlasError(f"{path} is damaged ({error}); make the atlas anew in another folder") from error

    @classmethod
    def _read(cls, content: dict[str, Any]) -> Manifest:
        pictures = content["pictures"]
        return cls(
            model=content["model"],
            sites=tuple(
                SiteEntry(site["name"], site["kind"], site["units"], _pair(site["grid"]), tuple(site["extent"]))
                for site in content["sites"]
            ),
            images=Images(**content["images"]),
            k=content["k"],
            rankings=content["rankings"],
            plan=content["plan"],
            renders=content["renders"],
            pictures=Pictures(
                **{
                    **pictures,
                    "render_size": _pair(pictures["render_size"]),
                    "photo_size": _pair(pictures["photo_size"]),
                }
            ),
            work=Work(**content["work"]),
            parts=tuple(
                {site: tuple(tuple(map(_pair, runs)) for runs in pieces) for site, pieces in part.items()}
                for part in content["parts"]
            ),
        )

    @property
    def said(self) -> PlanSettings:
        """:attr:`plan`, as :meth:`captum_vit.optvis.plan.RenderPlan.of` takes it."""
        return cast(PlanSettings, dict(self.plan))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which kinds of sites there are."""
        return kinds_of({site.kind for site in self.sites})

    # --- the neurons

    def units(self, site: str) -> tuple[int, ...]:
        """The units of a site that are in the atlas, ascending."""
        pieces = (runs for part in self.parts for runs in part.get(site, ()))
        return tuple(sorted(unit for runs in pieces for unit in units_of(runs)))

    @property
    def neurons(self) -> int:
        """How many neurons are in the atlas."""
        return sum(piece.amount for piece in self.render_pieces())

    def site(self, name: str) -> SiteEntry:
        """A site of the model by its name.

        Raises
        ------
        AddressError
            There is none of that name.
        """
        for site in self.sites:
            if site.name == name:
                return site
        names = [site.name for site in self.sites]
        raise AddressError(f'no site "{name}" in this atlas; its model has {names[0]} … {names[-1]}')

    def with_neurons(self, addresses: Sequence[Address]) -> Manifest:
        """The manifest with a part more, of those neurons that are not in it yet; the same where all are."""
        wanted: dict[str, set[int]] = {}
        for address in addresses:
            wanted.setdefault(address.site, set()).add(address.unit)
        part = {
            site.name: in_pieces(sorted(new), self.work.units_a_piece)
            for site in self.sites
            if (new := wanted.get(site.name, set()) - set(self.units(site.name)))
        }
        return replace(self, parts=(*self.parts, part)) if part else self

    # --- the pieces

    def ranking_pieces(self) -> Iterator[RankingPiece]:
        """All pieces of the rankings, of each in the order of the images."""
        for by in self.rankings:
            for first, last in self._image_ranges():
                yield RankingPiece(by, first, last)

    def photo_pieces(self) -> Iterator[PhotoPiece]:
        """All pieces of photos, by part, in the order of the images."""
        for part in range(len(self.parts)):
            for first, last in self._image_ranges():
                yield PhotoPiece(part, first, last)

    def photo_piece(self, part: int, image: int) -> PhotoPiece:
        """The piece of photos that an image is in."""
        first = image // self.work.images_a_piece * self.work.images_a_piece
        return PhotoPiece(part, first, min(first + self.work.images_a_piece, self.images.count) - 1)

    def render_pieces(self) -> Iterator[RenderPiece]:
        """All pieces of renders, by part and site."""
        for part in self.parts:
            for site, pieces in part.items():
                for runs in pieces:
                    yield RenderPiece(site, runs)

    def name_pieces(self) -> Iterator[NamePiece]:
        """All pieces of names, where they are asked for: a piece for each of renders."""
        for piece in self.render_pieces():
            yield NamePiece(piece.site, piece.runs)

    def pieces(self) -> Iterator[Piece]:
        """All pieces that every atlas has."""
        yield from self.ranking_pieces()
        yield from self.photo_pieces()
        yield from self.render_pieces()

    def _image_ranges(self) -> Iterator[tuple[int, int]]:
        return ranges(self.images.count, self.work.images_a_piece)

    # --- going on

    def check_goes_on(self, asked: Manifest, folder: Path) -> None:
        """Make sure that what is asked for is what the atlas in a folder is of, neurons aside.

        Raises
        ------
        AtlasError
            It differs.
        """
        if self.images != asked.images:
            raise AtlasError(
                f"{folder} is an atlas of {self.images.count:,} other photos than these {asked.images.count:,}: names "
                "or sizes of files differ; give the same --images in the same order, or another folder"
            )
        pairs = [
            ("k", self.k, asked.k),
            ("what images are ranked by", dict(self.rankings), dict(asked.rankings)),
            *_compared("model", self.model, asked.model),
            *_compared("render", self.renders, asked.renders),
            *_compared("picture", asdict(self.pictures), asdict(asked.pictures)),
            *_compared("work", asdict(self.work), asdict(asked.work)),
            ("its sites", self.sites, asked.sites),
        ]
        for what, ours, theirs in pairs:
            if ours != theirs:
                raise AtlasError(
                    f"{folder} is another atlas: {what} is {_shortly(ours)} there and {_shortly(theirs)} here; ask for "
                    "the same, or give another folder"
                )


def merged_ranking(by: str) -> str:
    """Path in an atlas of the ranking over all images."""
    return f"rankings/{kind(by)}.safetensors"


def _compared(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in {**ours, **theirs}:
        if name not in _MAY_DIFFER:
            # What comes from a file has lists for tuples.
            yield f"{what}'s {name}", _plainly(ours.get(name)), _plainly(theirs.get(name))


def _plainly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shortly(value: Any) -> str:
    words = str(value)
    return words if len(words) <= 80 else f"{words[:79]}…"


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return first, second
