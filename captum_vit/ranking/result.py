"""What a pass over a dataset gives: for each unit of each site its most activating images and a histogram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vit.errors import AddressError, RankingError
from captum_vit.probes.address import Address
from captum_vit.ranking import storage
from captum_vit.ranking.measure import ACTIVATION, kind_of
from captum_vit.ranking.relevance import RELEVANCE
from captum_vit.ranking.topk import EDGES, POSITIONS, UnitRanking

_ARRAYS = tuple(field.name for field in fields(UnitRanking))


@dataclass(frozen=True)
class TopImage:
    """One of a unit's most activating images.

    Attributes
    ----------
    path
        Its file; ``"index:17"`` where the dataset tells no files.
    sha256
        Checksum of the file's content, or of the image tensor's bytes where there is no file; in hexadecimal.
    index
        Its position in the dataset.
    value
        What the ranking measures of the unit, reduced over the patches.
    patch
        (row, column) of the patch where it is largest, under the reduction ``"max"``.
    by
        What the ranking measures: :attr:`TopImages.by`.
    """

    path: str
    sha256: str
    index: int
    value: float
    patch: tuple[int, int] | None = None
    by: str = ACTIVATION

    @property
    def activation(self) -> float:
        """The unit's activation, reduced over the patches.

        Raises
        ------
        RankingError
            The image was ranked by something else.
        """
        return self._measured(ACTIVATION)

    @property
    def relevance(self) -> float:
        """The unit's relevance to the model's output, reduced over the patches.

        Raises
        ------
        RankingError
            The image was ranked by something else.
        """
        return self._measured(RELEVANCE)

    def _measured(self, kind: str) -> float:
        if kind_of(self.by) != kind:
            raise RankingError(f"this image was ranked by {self.by}, and its {kind} was not kept; its .value is that")
        return self.value


@dataclass(frozen=True, eq=False)
class Histogram:
    """How a unit's activation, or its relevance, reduced over the patches, is distributed over the images.

    Attributes
    ----------
    edges
        Of the bins, ascending, shape ``(bins + 1,)``: the same for every unit and dataset, evenly spaced around zero
        (0.002 wide) and logarithmically further out (a fifth of the activation wide). The outermost bins also count
        what lies beyond -1000 and 1000.
    counts
        Number of images in each bin, shape ``(bins,)``.
    """

    edges: NDArray[np.float32]
    counts: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TopImages:
    """The k most activating images of every unit of every site; made by :func:`captum_vit.top_images`.

    Attributes
    ----------
    k
        Number of images kept for each unit.
    reduction
        ``"mean"`` or ``"max"`` of activations over the patches, ``"sum"`` or ``"max"`` of relevances.
    images
        Number of images seen.
    positions
        Number of positions in the dataset: where the images of another begin when it is merged into this one.
    skipped
        Why files were left out, one message each.
    settings
        The model, its weights and preprocessing, versions, and what is measured if that is not activation.
    units
        Ranking of the units of each site, by site name.
    sources
        Path and SHA-256 of the images in the ranking, by position in the dataset.
    """

    k: int
    reduction: str
    images: int
    positions: int
    skipped: tuple[str, ...]
    settings: Mapping[str, Any]
    units: Mapping[str, UnitRanking]
    sources: dict[int, tuple[str, str]]

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in the order of the forward pass."""
        return tuple(self.units)

    @property
    def by(self) -> str:
        """What is measured: ``"activation"``, or ``"relevance:OUTPUT"`` with the output that it is relevance to."""
        return str(self.settings.get("by", ACTIVATION))

    @property
    def not_finite(self) -> dict[str, int]:
        """Number of activations that were NaN or infinite and thus not ranked, by site; empty if there were none."""
        totals = {site: int(ranking.not_finite.sum()) for site, ranking in self.units.items()}
        return {site: total for site, total in totals.items() if total}

    def best(self, address: str) -> tuple[TopImage, ...]:
        """A unit's most activating images, best first; of equal activations, the image that comes first.

        At most ``k``; fewer where fewer images were seen.

        Raises
        ------
        AddressError
            The address is malformed, or the site or unit was not part of the pass.
        """
        ranking, unit = self._find(address)
        found = []
        for rank in np.isfinite(ranking.activations[unit]).nonzero()[0]:
            position = int(ranking.positions[unit, rank])
            row_column = ranking.patches[unit, rank].tolist() if ranking.patches.size else None
            found.append(
                TopImage(
                    *self.sources[position],
                    index=position,
                    value=float(ranking.activations[unit, rank]),
                    patch=row_column and (row_column[0], row_column[1]),
                    by=self.by,
                )
            )
        return tuple(found)

    def histogram(self, address: str) -> Histogram:
        """How a unit's activation is distributed over all images.

        Raises
        ------
        AddressError
            The address is malformed, or the site or unit was not part of the pass.
        """
        ranking, unit = self._find(address)
        return Histogram(EDGES, ranking.counts[unit])

    def merge(self, other: TopImages) -> TopImages:
        """The ranking over the images of both, the other's coming after this one's.

        Merging the rankings of the parts of a dataset, in order, gives the ranking of the whole.

        Raises
        ------
        RankingError
            The two measure different things, are of different models, weights, preprocessing, sites, ``k`` or
            reduction, or too large together.
        """
        ours, theirs = self._identity(), other._identity()
        if different := [name for name in ours | theirs if ours.get(name) != theirs.get(name)]:
            name = different[0]
            raise RankingError(
                f"these rankings cannot be merged: {name} is {ours.get(name)} in one and {theirs.get(name)} in the "
                "other; make both with the same arguments"
            )
        if self.positions + other.positions > POSITIONS:
            raise RankingError(f"these rankings cannot be merged: together they are of more than {POSITIONS} images")
        sources = {position + self.positions: source for position, source in other.sources.items()}
        return replace(
            self,
            images=self.images + other.images,
            positions=self.positions + other.positions,
            skipped=self.skipped + other.skipped,
            units={site: ours.merged(other.units[site], self.positions) for site, ours in self.units.items()},
            sources={**self.sources, **sources},
        ).pruned()

    def pruned(self) -> TopImages:
        """The same without the sources of images that are in no unit's ranking any more."""
        ranked = np.unique(np.concatenate([ranking.positions.ravel() for ranking in self.units.values()]))
        return replace(self, sources={place: self.sources[place] for place in ranked.tolist() if place >= 0})

    def save(self, path: str | Path) -> Path:
        """Write one file, in the safetensors format with a JSON header, and return its path.

        The same ranking gives the same bytes.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        ranking = self.pruned()
        header = {name: getattr(ranking, name) for name in ("k", "reduction", "images", "positions", "sites")}
        paths, digests = zip(*ranking.sources.values(), strict=True) if ranking.sources else ((), ())
        arrays = {f"{site}/{name}": getattr(units, name) for site, units in ranking.units.items() for name in _ARRAYS}
        arrays |= {
            "sources/positions": np.array(list(ranking.sources), dtype=np.int64),
            "sources/paths": storage.pack(paths),
            "sources/sha256": np.frombuffer(bytes.fromhex("".join(digests)), dtype=np.uint8),
            "skipped": storage.pack(ranking.skipped),
        }
        storage.write(Path(path), {**header, "settings": dict(ranking.settings)}, arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> TopImages:
        """Read a saved ranking.

        Raises
        ------
        RankingFileError
            The file is missing, damaged, or not what :meth:`save` wrote.
        """
        header, arrays = storage.read(Path(path))
        try:
            positions = arrays["sources/positions"].tolist()
            paths = storage.unpack(arrays["sources/paths"])
            digests = (digest.tobytes().hex() for digest in arrays["sources/sha256"].reshape(-1, 32))
            units = {site: UnitRanking(*(arrays[f"{site}/{name}"] for name in _ARRAYS)) for site in header["sites"]}
            if not all(ranking.fits(header["k"], header["reduction"] == "max") for ranking in units.values()):
                raise ValueError("arrays of other shapes or types")
            return cls(
                **{name: header[name] for name in ("k", "reduction", "images", "positions", "settings")},
                skipped=tuple(storage.unpack(arrays["skipped"])),
                units=units,
                sources=dict(zip(positions, zip(paths, digests, strict=True), strict=True)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise storage.damaged(Path(path)) from error

    def _identity(self) -> dict[str, Any]:
        """What two rankings must share to be of the same thing; not versions, which may differ by a bug fix."""
        settings = {name: value for name, value in self.settings.items() if name not in ("by", "versions")}
        return {"by": self.by, "k": self.k, "reduction": self.reduction, "sites": self.sites, **settings}

    def _find(self, address: str) -> tuple[UnitRanking, int]:
        parsed = Address.parse(address)
        name, unit = parsed.site, parsed.unit
        by_layer = {"ffn_" + site.replace(".", "_"): site for site in self.units}
        ranking = self.units.get(by_layer.get(name, name))
        if ranking is None:
            raise AddressError(f'no site "{name}" in this ranking; it has {", ".join(self.units)}')
        if unit >= len(ranking.counts):
            raise AddressError(f'no unit {unit} at "{name}"; it has 0 … {len(ranking.counts) - 1}')
        return ranking, unit
