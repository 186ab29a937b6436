"""What the commands that make cards share: their options, the way from neurons to cards, and what they warn of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console
from captum_vit.cli.folders import find_images, foretell_ranking
from captum_vit.cli.model import ModelChoice
from captum_vit.cli.plan import PlanChoice
from captum_vit.storage.files import shown
from captum_vit.storage.marks import SUFFIX, mark_of, place

if TYPE_CHECKING:
    from captum_vit.cards.card import Card
    from captum_vit.probes.address import Address
    from captum_vit.ranking.result import TopImages

Top = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Saved result of `captum-vit top-images`, instead of --images.")
]
KeptRenders = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Folder of renders, as `captum-vit render` writes: those with the same settings are taken, the others "
        "are put there, so that an interrupted run goes on where it stopped.",
    ),
]


def find_photos(images: Sequence[Path] | None, top: Path | None) -> TopImages | Sequence[Path]:
    """The photos to choose from: those of a saved ranking, those that were named, or the package's own.

    Raises
    ------
    CaptumViTError
        A ranking and photos are given, or there is none where they should be.
    """
    from captum_vit.errors import CaptumViTError
    from captum_vit.models import default_crops
    from captum_vit.ranking.result import TopImages

    if top and images:
        raise CaptumViTError("--top and --images exclude each other; the file of --top names its images")
    return TopImages.load(top) if top else find_images(images) if images else default_crops()


def mark_of_question(
    kind: str,
    choice: ModelChoice,
    how: PlanChoice,
    addresses: Sequence[Address],
    images: Sequence[Path] | None,
    top: Path | None,
    k: int,
) -> str:
    """The mark of the file that answers a question, by which the same command knows its own."""
    photos = [str(path) for path in (*(images or ()), *([top] if top else ()))]
    return mark_of([kind, choice.origin, choice.seed, astuple(how), list(addresses), photos, k])


def default_output(name: str, suffix: str, mark: str) -> Path:
    """A file for an answer where none was named: not one that holds something else."""
    return place(Path(), name, (suffix,), mark, mark[-SUFFIX:])


def make_cards(
    choice: ModelChoice,
    how: PlanChoice,
    addresses: Sequence[Address],
    photos: TopImages | Sequence[Path],
    *,
    k: int,
    renders: Path | None,
) -> tuple[Card, ...]:
    """Load the model, rank the photos, and make the card of each neuron.

    Raises
    ------
    OutputError
        The folder for renders cannot be made or written; said before weights are fetched.
    """
    from captum_vit.cards.agreement import agreements
    from captum_vit.cards.card import accentuated, assemble, rank_photos
    from captum_vit.cards.photos import most_activating
    from captum_vit.optvis.folder import render_into
    from captum_vit.optvis.rendering import render
    from captum_vit.ranking.result import TopImages
    from captum_vit.storage.files import check_folder

    if renders:
        check_folder(renders)
    with choice.loaded() as vit:
        if not isinstance(photos, TopImages):
            foretell_ranking(vit, photos, list({address.site for address in addresses}))
        ranking = rank_photos(vit, addresses, photos, k=k)
        best = most_activating(vit, addresses, ranking, k=k)
        plan = how.plan(choice, vit)
        how.foretell(vit, addresses, plan, renders)
        if renders:
            with console.keeping(f"the optimized images that were finished are in {renders}"):
                made = render_into(renders, vit, addresses, plan)
        else:
            made = render(vit, addresses, plan=plan)
        made = accentuated(vit, made, best, plan)
        agreed = agreements(vit, made, ranking)
    return assemble(made, best, ranking, choice.full_name, agreed)


def warn_of(cards: Sequence[Card]) -> None:
    """Print which files were skipped and which optimized images mean little."""
    console.warn_of_skipped(cards[0].skipped)
    for each in cards:
        if each.optimized.problem:
            console.warn(f"{each.address}: the optimized image means little: {each.optimized.problem}")


def report_many(cards: Sequence[Card], files: str, path: Path) -> None:
    """Print how the cards of several neurons were made, and where they are."""
    from captum_vit.cards.words import candidates, small_print

    first, stdout = cards[0], console.stdout()
    stdout.print(f"[bold]{len(cards)} neurons[/] of {escape(first.model)}")
    stdout.print(f"  optimized images {small_print(first)[0]}")
    most = max(len(card.photos) for card in cards)
    stdout.print(f"  photos           best {most} of {candidates(first)} for each neuron")
    stdout.print(f"  {files:<16} [green]{escape(shown(path))}[/]")
