"""The images that an atlas is of: a list of names in a file of its own, and where they are on this machine."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from captum_vit.atlas.tables import Columns, read_rows, write_table
from captum_vit.data.search import find_images, image_suffixes, read_list
from captum_vit.errors import AtlasError, ImageError
from captum_vit.models import default_crops
from captum_vit.storage.files import shown
from captum_vit.storage.part import Part

FILE = "images.parquet"


@dataclass(frozen=True)
class Entry:
    """One image of a list.

    Attributes
    ----------
    place
        Which of the places that were given it is in: folders, and archives.
    name
        Its path in that place, with forward slashes.
    bytes
        Size of its file.
    offset
        Where it begins in its archive; -1 for a file.
    """

    place: int
    name: str
    bytes: int
    offset: int = -1

    @property
    def label(self) -> str | None:
        """The folder that it is in, below its place; None if it is in none."""
        folder = PurePosixPath(self.name).parent.as_posix()
        return None if folder == "." else folder


@dataclass(frozen=True)
class ImageList:
    """Images in a fixed order, by which pieces of work count them.

    Attributes
    ----------
    places
        Folders and archives on this machine.
    entries
        The images.
    """

    places: tuple[Path, ...]
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, sources: Sequence[str | Path] | None) -> ImageList:
        """The images in folders, in archives (``.tar``), in lists (``.txt``, one path a line), and files themselves.

        Of none, the crops of photos that come with the package.

        Raises
        ------
        ImageError
            A source does not exist, cannot be read or has no image.
        """
        places: list[Path] = []
        entries: list[Entry] = []
        for source in map(Path, default_crops() if sources is None else sources):
            place, found = _entries(source)
            if place not in places:
                places.append(place)
            entries += [Entry(places.index(place), name, size, offset) for name, size, offset in found]
        if not entries:
            raise ImageError("there is no image; give a folder, an archive (.tar) or a list (.txt) of images")
        return cls(tuple(places), tuple(entries))

    @property
    def sha256(self) -> str:
        """Checksum of places, names and sizes, in hexadecimal; not of where the places are."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(json.dumps(astuple(entry)).encode())
        return digest.hexdigest()

    @property
    def labelled(self) -> bool:
        """Whether each image is in a folder below its place, whose name is then its label."""
        return all(entry.label for entry in self.entries)

    def save(self, folder: Path) -> None:
        """Write the list into an atlas.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        labelled = self.labelled
        columns: Columns = {
            "index": ("int64", list(range(len(self.entries)))),
            "place": ("int32", [entry.place for entry in self.entries]),
            "name": ("string", [shown(entry.name) for entry in self.entries]),
            "path": ("binary", [_where_not_shown(entry.name) for entry in self.entries]),
            "bytes": ("int64", [entry.bytes for entry in self.entries]),
            "offset": ("int64", [entry.offset for entry in self.entries]),
            "label": ("string", [shown(entry.label) if labelled and entry.label else None for entry in self.entries]),
        }
        write_table(folder / FILE, columns)


def read_entries(folder: Path, first: int, last: int) -> list[Entry]:
    """Some of the images of an atlas, both ends included; no more of the list is held in memory.

    Raises
    ------
    AtlasError
        The list cannot be read.
    """
    rows = read_rows(folder / FILE, first, last, ("place", "name", "path", "bytes", "offset"))
    return [Entry(row["place"], _name(row), row["bytes"], row["offset"]) for row in rows]


def read_bytes(places: Sequence[Path], entry: Entry) -> bytes:
    """The bytes of an image's file.

    Raises
    ------
    AtlasError
        It is not there any more.
    OSError
        It cannot be read.
    """
    place = places[entry.place]
    path = place if entry.offset >= 0 else Path(Part.of(place / entry.name).file)
    try:
        with path.open("rb") as file:
            file.seek(max(entry.offset, 0))
            return file.read(entry.bytes if entry.offset >= 0 else -1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AtlasError(
            f"{path} is one of the atlas' photos and not there any more; put it back, and the same command goes on"
        ) from error


def _where_not_shown(name: str) -> bytes | None:
    """A name in the file system's bytes, where it cannot be shown as it is."""
    return None if shown(name) == name else name.encode(errors="surrogateescape")


def _name(row: Mapping[str, Any]) -> str:
    path = row["path"]
    return str(row["name"]) if path is None else bytes(path).decode(errors="surrogateescape")


def _entries(source: Path) -> tuple[Path, Iterator[tuple[str, int, int]]]:
    """The place that a source is, or is in; name, size and offset of each image."""
    if source.suffix == ".tar":
        return source, _members(source)
    if source.suffix == ".txt":
        return source.parent, _files(source.parent, read_list(source))
    if source.is_dir():
        return source, _files(source, find_images([source]))
    if Part.of(source).box is not None:
        return source.parent, _files(source.parent, [source])
    return source.parent, _files(source.parent, find_images([source]))


def _files(place: Path, paths: Sequence[Path]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        try:
            size = Path(Part.of(path).file).stat().st_size
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
        # A list may name files elsewhere, by their whole path; such an atlas stays where they are.
        name = path.relative_to(place) if path.is_relative_to(place) else path
        yield name.as_posix(), size, -1


def _members(archive: Path) -> Iterator[tuple[str, int, int]]:
    try:
        suffixes = image_suffixes()
        with tarfile.open(archive, "r:") as members:
            for member in members:
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in suffixes:
                    yield member.name, member.size, member.offset_data
    except (OSError, tarfile.TarError) as error:
        raise ImageError(f"{archive} cannot be read as an archive that is not compressed: {error}") from error
