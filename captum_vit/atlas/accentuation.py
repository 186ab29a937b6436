"""Accentuation: where no random start excites a neuron, its render starts from its strongest photo, and says so."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path, PurePosixPath

from captum_vit.atlas.images import Entry, read_bytes, read_entries
from captum_vit.atlas.ranking import ranked_sha256, strongest
from captum_vit.atlas.reading import check_unchanged
from captum_vit.atlas.worker import Worker
from captum_vit.cards.card import started_again
from captum_vit.optvis.results import Render
from captum_vit.storage.files import shown


def accentuated(worker: Worker, made: Render, site: str, unit: int) -> tuple[Render, str | None]:
    """A render as it is, or one that started from a photo where it means little and that one does not.

    As on cards (:func:`captum_vit.cards.card.accentuated`).

    Returns
    -------
    render
        The render.
    started_from
        Name of the photo from which it started; None if it started at random.

    Raises
    ------
    AtlasError
        The photo is not there any more, or another.
    """
    if made.problem is None:
        return made, None
    photo, activation = strongest(worker.folder, site, unit)
    if not activation > 0:
        return made, None
    (entry,) = read_entries(worker.folder, photo, photo)
    content = read_bytes(worker.job.places, entry)
    found = entry.name, hashlib.sha256(content).hexdigest()
    check_unchanged((entry.name, ranked_sha256(worker.folder, worker.manifest, photo, photo)[photo]), found)
    with tempfile.TemporaryDirectory() as scratch:
        again = started_again(worker.vit, made, worker.plan, _file(worker, entry, content, Path(scratch)))
    return again, shown(entry.name) if again is not made else None


def _file(worker: Worker, entry: Entry, content: bytes, scratch: Path) -> Path:
    """A photo as a file: its own, or a copy of what is in an archive."""
    if entry.offset < 0:
        return worker.job.places[entry.place] / entry.name
    copy = scratch / f"photo{PurePosixPath(entry.name).suffix}"
    copy.write_bytes(content)
    return copy
