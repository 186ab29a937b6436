"""Making an atlas: what is missing is done, by whichever engine, and the table and the page follow from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from captum_vit.atlas.engines.engine import Crew, Engine, Progress
from captum_vit.atlas.engines.here import ThisProcess
from captum_vit.atlas.going_on import check_goes_on
from captum_vit.atlas.images import FILE as LIST
from captum_vit.atlas.images import ImageList
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.naming.asked import Naming
from captum_vit.atlas.naming.clip import Clip
from captum_vit.atlas.naming.phase import prepare, read_names
from captum_vit.atlas.naming.words import check_words, read_words
from captum_vit.atlas.pieces import Piece, RankingPiece, is_done, merged_ranking
from captum_vit.atlas.publishing import publish
from captum_vit.atlas.ranking import drop_merged, merge
from captum_vit.atlas.reader import Atlas, open_atlas
from captum_vit.atlas.reading import PhotoReader
from captum_vit.atlas.settings import AtlasSettings, propose
from captum_vit.atlas.source import MadeModel, NamedModel, as_source, with_kinds
from captum_vit.atlas.table import write_neurons
from captum_vit.atlas.tables import arrow
from captum_vit.atlas.worker import Job, computing_with
from captum_vit.errors import AtlasError, NamingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.devices import AUTO, find_device
from captum_vit.probes.selection import select_neurons
from captum_vit.progress import progress_bar
from captum_vit.storage.files import check_folder, replacing

FAILURES = "failures"


@dataclass(frozen=True)
class Undertaking:
    """An atlas that is to be made, or to go on.

    Attributes
    ----------
    folder
        Where.
    manifest
        What is to be in it.
    images
        The images on this machine.
    job
        What workers are told.
    vit
        The model, on the CPU.
    """

    folder: Path
    manifest: Manifest
    images: ImageList
    job: Job
    vit: AdaptedModel = field(repr=False)

    def naming(self, naming: Naming | None) -> Undertaking:
        """The same, whose neurons are named, too."""
        return replace(self, job=replace(self.job, naming=naming))

    @property
    def missing(self) -> list[Piece]:
        """The pieces that are not done."""
        ranked = {by for by in self.manifest.rankings if (self.folder / merged_ranking(by)).exists()}
        names = () if self.job.naming is None else self.manifest.name_pieces()
        return [
            piece
            for piece in (*self.manifest.pieces(), *names)
            if not (isinstance(piece, RankingPiece) and piece.by in ranked) and not is_done(self.folder, piece)
        ]


def make_atlas(
    folder: str | Path,
    model: str | NamedModel | MadeModel | Callable[[], AdaptedModel],
    images: Sequence[str | Path] | None = None,
    *,
    neurons: Sequence[str] | None = None,
    engine: Engine | None = None,
    device: str = AUTO,
    clip: Clip | str | None = None,
    words: Sequence[str] | str | Path | None = None,
    quantile: float = 0.99,
    progress: bool = True,
    **settings: Unpack[AtlasSettings],
) -> Atlas:
    """Make an atlas of a model's neurons, or go on with one.

    What is in the folder is kept: an interrupted call goes on where it was, and other neurons are added to those that
    are there. Files are the same whichever engine makes them, and whatever dies on the way.

    Parameters
    ----------
    folder
        Where to make it.
    model
        A model's name, as :func:`captum_vit.load_model` takes it, or a function of a module, which gives an adapted
        model. A named one has sites of the kinds that ``neurons`` name (``"blocks.5.query:all"``), or that the folder's
        atlas is of; ``NamedModel(name, kinds=("attention",))`` of :mod:`captum_vit.atlas.source` says them.
    images
        Folders, archives (``.tar``), lists (``.txt``) and image files; crops of the photos that come with the package
        when not given. An atlas that goes on needs them again, from wherever they are now.
    neurons
        Which, as ``"SITE:UNIT"``, ``"SITE:0-63"``, ``"SITE:all"`` or ``"SITE:random:16"``; all when not given.
    engine
        Who does the work; this process when not given.
    device
        Where to compute, ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    clip, words, quantile
        What neurons are to be named with, as for :func:`captum_vit.name_neurons`; a name of a CLIP is loaded by
        :func:`captum_vit.atlas.naming.clip.load_clip`. No names when there is none.
    progress
        Whether to show progress bars with the time left.
    **settings
        What is not said is as it is in the folder, or else: ``k`` photos of each neuron, 10; ``reduction`` of
        activations over the patches, ``"mean"``; ``relevance``, whether photos are ranked by relevance too, no;
        ``recipe``, ``steps``, ``size``, ``seed``, ``dtype`` of renders as for :func:`captum_vit.render`; ``threads`` of
        a worker on a CPU, 1; ``batch_size``, neurons rendered at a time, 8 on a CPU; ``units_a_piece``, 64, and
        ``images_a_piece``, neurons and images in a piece of work.

    Returns
    -------
    Atlas
        What was made.

    Raises
    ------
    AtlasError
        The folder holds another atlas, or of other photos or settings; a photo is gone; nothing can be done.
    AddressError, ImageError, ModelNameError, NamingError, PlanError, RankingError, RecipeError, WeightsError
        Something that was asked for means nothing.
    OutputError
        A file cannot be written.
    """
    undertaking = undertake(folder, model, images, neurons=neurons, device=device, settings=settings)
    undertaking = undertaking.naming(name_with(clip, words, quantile, undertaking.job.device))
    return carry_out(undertaking, engine or ThisProcess(), progress=progress)


def name_with(
    clip: Clip | str | None, words: Sequence[str] | str | Path | None, quantile: float, device: str
) -> Naming | None:
    """What neurons are to be named with; None without a CLIP.

    Raises
    ------
    NamingError
        There is no such CLIP, or the words are too few or in no file.
    """
    if clip is None:
        if words is not None:
            raise NamingError("words are compared with photos by a CLIP; give one, or leave the words out")
        return None
    listed = read_words(words) if words is None or isinstance(words, str | Path) else check_words(tuple(words))
    naming = Naming(clip, listed, quantile, device)
    _ = naming.clip  # one that is not there is told before the long work
    return naming


def undertake(
    folder: str | Path,
    model: str | NamedModel | MadeModel | Callable[[], AdaptedModel],
    images: Sequence[str | Path] | None,
    *,
    neurons: Sequence[str] | None,
    device: str,
    settings: AtlasSettings,
) -> Undertaking:
    """What :func:`make_atlas` would do: checked, and nothing written. Parameters and errors are those."""
    arrow()
    folder = Path(folder)
    found = Manifest.load(folder) if folder.is_dir() and any(folder.iterdir()) else None
    source = with_kinds(as_source(model), None if found is None else found.kinds, neurons)
    listed = ImageList.of(images)
    place = find_device(device)
    vit = source()
    asked = propose(vit, source, listed, place.device.type, settings, found)
    if found is not None:
        check_goes_on(found, asked, folder)
    chosen = [f"{site.name}:all" for site in vit.sites] if neurons is None else neurons
    manifest = (found or asked).with_neurons(select_neurons(vit, chosen, asked.plan["seed"]))
    recipe = settings.get("recipe") or manifest.plan["recipe"]
    job = Job(folder.absolute(), source, str(place.device), tuple(map(Path.absolute, listed.places)), recipe)
    return Undertaking(folder, manifest, listed, job, vit)


def carry_out(undertaking: Undertaking, engine: Engine, *, progress: bool = True) -> Atlas:
    """Do what is missing of an atlas.

    Raises
    ------
    AtlasError, OutputError
        As for :func:`make_atlas`.
    """
    folder, manifest = undertaking.folder, undertaking.manifest
    check_folder(folder)
    _clear(folder)
    if undertaking.job.naming is not None:
        undertaking.job.naming.check(folder)
    if not (folder / LIST).exists():
        undertaking.images.save(folder)
    manifest.save(folder)
    missing = undertaking.missing
    if missing:
        with engine.crew(undertaking.job, undertaking.vit) as crew:
            _do(undertaking, crew, missing, progress)
    write_neurons(folder, manifest, read_names(folder, manifest))
    publish(folder, manifest)
    _clear(folder)
    drop_merged(folder, manifest)
    return open_atlas(folder)


def _do(undertaking: Undertaking, crew: Crew, missing: list[Piece], progress: bool) -> None:
    folder, manifest, naming = undertaking.folder, undertaking.manifest, undertaking.job.naming
    rankings = set(manifest.ranking_pieces())
    _phase("Ranking", folder, crew, [piece for piece in missing if piece in rankings], progress)
    ranked = True
    for by in manifest.rankings:
        merged = folder / merged_ranking(by)
        if merged.exists() or all(is_done(folder, piece) for piece in rankings if piece.by == by):
            merge(folder, manifest, by)
        ranked &= merged.exists()
    if not ranked:
        raise AtlasError(
            f"the ranking is not whole, as pieces of it failed, which {folder / FAILURES} tells about; the same "
            "command tries them again"
        )
    photos = set(manifest.photo_pieces())
    _phase("Mapping photos", folder, crew, [piece for piece in missing if piece in photos], progress)
    renders = set(manifest.render_pieces())
    _phase("Rendering", folder, crew, [piece for piece in missing if piece in renders], progress)
    named = set(manifest.name_pieces())
    if naming is not None and not named.isdisjoint(missing):
        with computing_with(manifest.work.threads):
            prepare(folder, manifest, naming, PhotoReader(undertaking.vit, undertaking.job.places), progress)
        _phase("Naming", folder, crew, [piece for piece in missing if piece in named], progress)


def _phase(title: str, folder: Path, crew: Crew, pieces: Iterable[Piece], progress: bool) -> None:
    pieces = list(pieces)
    if not pieces:
        return
    with progress_bar(title, sum(piece.amount for piece in pieces), disable=not progress) as advance:

        def tell(told: Progress) -> None:
            advance(told.amount)
            if told.settled:
                _note(folder, told)

        crew.do(pieces, tell)


def _note(folder: Path, told: Progress) -> None:
    """Keep why a piece failed, or forget why it once did."""
    path = folder / FAILURES / f"{told.piece.name.replace('/', '-')}.json"
    if told.error is None:
        path.unlink(missing_ok=True)
        return
    check_folder(path.parent)
    content: dict[str, Any] = {"piece": told.piece.name, "error": told.error}
    with replacing(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def _clear(folder: Path) -> None:
    """Take away what workers that were killed had begun to write, and a folder of failures without any."""
    for path in folder.rglob(".*.partial*"):
        path.unlink(missing_ok=True)
    failures = folder / FAILURES
    if failures.is_dir() and not any(failures.iterdir()):
        failures.rmdir()
