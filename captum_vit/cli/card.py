"""The command ``captum-vit card``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console, words
from captum_vit.cli.cards import (
    KeptRenders,
    Top,
    default_output,
    find_photos,
    make_cards,
    mark_of_question,
    report_many,
    warn_of,
)
from captum_vit.cli.folders import Images, TopK
from captum_vit.cli.model import DEFAULT_MODEL, Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.cli.neurons import Neurons, find_neurons
from captum_vit.cli.plan import Dtype, PlanChoice, RecipeName, Size, Steps
from captum_vit.errors import OutputError
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import PAGES, PICTURES, check_output, shown
from captum_vit.storage.marks import file_name

if TYPE_CHECKING:
    from captum_vit.cards.card import Card

# More cards than these make a picture that few programs open.
MOST_IN_A_PICTURE = 16


def card(
    model: Model = DEFAULT_MODEL,
    neurons: Neurons = None,
    images: Images = None,
    top: Top = None,
    k: TopK = 4,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            callback=words.output(*PICTURES, *PAGES),
            help="Picture (.png, .pdf, .svg ...) or page (.html) to write; MODEL-SITE-UNIT-RECIPE.png here when not "
            "given, and for several neurons MODEL-RECIPE-cards.html.",
        ),
    ] = None,
    renders: KeptRenders = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    recipe: RecipeName = words.DEFAULT_RECIPE,
    steps: Steps = None,
    size: Size = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Show what neurons respond to: an optimized image, the most activating photos, and where in those photos.

    One neuron as a picture, many as one HTML page that needs no network. Without arguments, a neuron of the small
    trained model that comes with the package.
    """
    from captum_vit.cards.figure import draw_cards
    from captum_vit.cards.page import write_page
    from captum_vit.plots import save_figure

    # Everything that can be wrong with the question comes before weights are fetched and images optimized.
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming(neurons)
    how = PlanChoice(recipe, steps, size, dtype).checked()
    photos = find_photos(images, top)
    addresses = find_neurons(choice, neurons)
    mark = mark_of_question("card", choice, how, addresses, images, top, k)
    if out is None:
        made = file_name(recipe)
        stem, suffix = (
            (f"{addresses[0].file_name}-{made}", ".png") if len(addresses) == 1 else (f"{made}-cards", PAGES[0])
        )
        out = default_output(f"{choice.file_name}-{stem}", suffix, mark)
        check_output(out, PICTURES + PAGES)
    is_page = out.suffix.lower() in PAGES
    if len(addresses) > MOST_IN_A_PICTURE and not is_page:
        raise OutputError(
            f"{out} would be a picture of {len(addresses)} cards; write a page instead, --out FILE{PAGES[0]}"
        )

    cards = make_cards(choice, how, addresses, photos, k=k, renders=renders)
    if is_page:
        write_page(cards, out, mark=mark)
    else:
        save_figure(draw_cards(cards), out, mark=mark)
    warn_of(cards)
    if len(cards) == 1:
        _report_one(cards[0], out)
    else:
        report_many(cards, "cards", out)


def _report_one(card: Card, path: Path) -> None:
    """Print what was found."""
    from captum_vit.cards.words import candidates, small_print

    stdout, how = console.stdout(), small_print(card)[0]
    stdout.print(f"[bold]{escape(card.address)}[/] of {escape(card.model)}")
    stdout.print(f"  optimized image  activation {card.optimized.activation:.3g} after {how}")
    stdout.print(f"  photos           best {len(card.photos)} of {candidates(card)}")
    for photo in card.photos:
        stdout.print(f"                   activation {photo.activation:.3g}, {escape(shown(photo.path))}")
    stdout.print(f"  card             [green]{escape(shown(path))}[/]")
