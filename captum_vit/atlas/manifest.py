"""The manifest of an atlas: all that its files depend on, decided before the first of them is made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from captum_vit.atlas.entries import Images, Pictures, SiteEntry, Work
from captum_vit.atlas.pieces import (
    NamePiece,
    PhotoPiece,
    Piece,
    RankingPiece,
    RenderPiece,
    Runs,
    in_pieces,
    ranges,
    units_of,
)
from captum_vit.errors import AddressError, AtlasError
from captum_vit.optvis.plan import PlanSettings
from captum_vit.probes.address import Address
from captum_vit.probes.kinds import kinds_of
from captum_vit.storage.files import replacing

FILE = "manifest.json"
FORMAT, VERSION = "captum-vit atlas", 2


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


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return first, second
