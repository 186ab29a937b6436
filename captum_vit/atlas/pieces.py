"""The pieces of work that an atlas is made of: what each is of, and the files that it ends in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

# Runs of units, both ends included.
Runs: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RankingPiece:
    """Some images, and which of them excite each unit of the model most.

    Attributes
    ----------
    by
        What is measured: ``"activation"``, or ``"relevance:…"``.
    first, last
        The images, both ends included.
    """

    by: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """The path of its files in the atlas, without a suffix."""
        return f"rankings/{kind(self.by)}/{self.first:08d}-{self.last:08d}"

    @property
    def last_file(self) -> str:
        """The file that is written last: where it is, the piece is done."""
        return f"{self.name}.safetensors"

    @property
    def amount(self) -> int:
        """Images to look at."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class PhotoPiece:
    """Some images, of which those are shown, with maps over them, that are among the best of a neuron.

    Attributes
    ----------
    part
        The neurons: those that one command added.
    first, last
        The images, both ends included.
    """

    part: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """The path of its files in the atlas, without a suffix."""
        return f"photos/{self.part}/{self.first:08d}-{self.last:08d}"

    @property
    def last_file(self) -> str:
        """The file that is written last: where it is, the piece is done."""
        return f"{self.name}.parquet"

    @property
    def vectors(self) -> str:
        """Path of the embeddings in the atlas."""
        return f"{self.name}.safetensors"

    def sheet(self, number: int) -> str:
        """Path of a sheet of thumbnails in the atlas."""
        return f"{self.name}-{number:04d}.webp"

    @property
    def amount(self) -> int:
        """Images to look through."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class _UnitsPiece:
    """Some units of one site.

    Attributes
    ----------
    site
        Name of the site.
    runs
        The units.
    """

    folder: ClassVar[str]

    site: str
    runs: Runs

    @property
    def units(self) -> tuple[int, ...]:
        """The units, in the order of their records."""
        return units_of(self.runs)

    @property
    def name(self) -> str:
        """The path of its files in the atlas, without a suffix."""
        return f"{self.folder}/{self.site}/{self.runs[0][0]:06d}-{self.runs[-1][1]:06d}"

    @property
    def last_file(self) -> str:
        """The file that is written last: where it is, the piece is done."""
        return f"{self.name}.json"

    @property
    def amount(self) -> int:
        """How many neurons."""
        return len(self.units)


class RenderPiece(_UnitsPiece):
    """Some units of one site, to be rendered, in the order of their tiles."""

    folder = "renders"

    def sheet(self, number: int) -> str:
        """Path of a sheet of renders in the atlas."""
        return f"{self.name}-{number:04d}.webp"

    @property
    def vectors(self) -> str:
        """Path of the embeddings in the atlas."""
        return f"{self.name}.safetensors"


class NamePiece(_UnitsPiece):
    """Some units of one site, to be named."""

    folder = "names"


Piece: TypeAlias = RankingPiece | PhotoPiece | RenderPiece | NamePiece


def kind(by: str) -> str:
    """``"activation"`` or ``"relevance"``, to whichever output: what the files of a ranking are called."""
    return by.partition(":")[0]


def merged_ranking(by: str) -> str:
    """Path in an atlas of the ranking over all images."""
    return f"rankings/{kind(by)}.safetensors"


def is_done(folder: Path, piece: Piece) -> bool:
    """Whether a piece's files are in an atlas."""
    return (folder / piece.last_file).exists()


def ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    """First and last of so many things in pieces of a size."""
    for first in range(0, count, size):
        yield first, min(first + size, count) - 1


def runs_of(units: Sequence[int]) -> Runs:
    """Units in ascending order as runs."""
    runs: list[tuple[int, int]] = []
    for unit in units:
        if runs and runs[-1][1] == unit - 1:
            runs[-1] = (runs[-1][0], unit)
        else:
            runs.append((unit, unit))
    return tuple(runs)


def units_of(runs: Runs) -> tuple[int, ...]:
    """The inverse of :func:`runs_of`."""
    return tuple(unit for first, last in runs for unit in range(first, last + 1))


def in_pieces(units: Sequence[int], size: int) -> tuple[Runs, ...]:
    """Units in ascending order as the runs of pieces of so many each."""
    return tuple(runs_of(units[first : last + 1]) for first, last in ranges(len(units), size))
