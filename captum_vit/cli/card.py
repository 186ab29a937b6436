"""The command ``captum-vit card``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console
from captum_vit.cli.cards import Images, KeptRenders, Top, find_photos, make_cards, report_many, warn_of
from captum_vit.cli.model import (
    DEFAULT_MODEL,
    DEFAULT_NEURON,
    Checkpoint,
    Device,
    Model,
    RandomWeights,
    RecipeName,
    Seed,
    Steps,
    default_neuron,
    file_name,
    find_device,
    find_neurons,
)

if TYPE_CHECKING:
    from captum_vit.cards.card import Card

PAGE = ".html"
# More cards than these make a picture that few programs open.
MOST_IN_A_PICTURE = 16


def card(
    model: Model = DEFAULT_MODEL,
    neurons: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SITE:UNIT...",
            help="The neuron, such as blocks.8:42; or several, also as SITE:0-63, SITE:all or SITE:random:16. "
            f"{DEFAULT_NEURON} where the model is {DEFAULT_MODEL} and none is named.",
            show_default=False,
        ),
    ] = None,
    images: Images = None,
    top: Top = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Photos on a card.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Picture (.png, .pdf, .svg ...) or page (.html) to write. When not given, MODEL-SITE-UNIT.png here "
            "for one neuron, MODEL-cards.html for several.",
        ),
    ] = None,
    renders: KeptRenders = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    recipe: RecipeName = "fourier",
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Show what neurons respond to: an optimized image, the most activating photos, and where in those photos.

    One neuron as a picture, many as one HTML page that needs no network. Without arguments, a neuron of the small
    trained model that comes with the package.
    """
    from captum_vit.cards.figure import draw_cards
    from captum_vit.cards.page import write_page
    from captum_vit.errors import OutputError
    from captum_vit.optvis.recipes import find_recipe
    from captum_vit.plots import FORMATS, save_figure
    from captum_vit.storage.files import check_output

    # Everything that can be wrong with the question comes before weights are fetched and images optimized.
    find_recipe(recipe)
    photos = find_photos(images, top)
    place = find_device(device)
    addresses = find_neurons(model, neurons, seed, lambda sketch: [default_neuron(model, sketch)])
    path = out or _default_path(model, addresses)
    check_output(path, [*FORMATS, PAGE])
    is_page = path.suffix.lower() == PAGE
    if len(addresses) > MOST_IN_A_PICTURE and not is_page:
        raise OutputError(
            f"{path} would be a picture of {len(addresses)} cards; write a page instead, --out FILE{PAGE}"
        )

    cards = make_cards(
        model,
        addresses,
        photos,
        k=k,
        renders=renders,
        checkpoint=checkpoint,
        random_weights=random_weights,
        recipe=recipe,
        steps=steps,
        seed=seed,
        place=place,
    )
    if is_page:
        write_page(cards, path)
    else:
        save_figure(draw_cards(cards), path)
    warn_of(cards)
    if len(cards) == 1:
        _report_one(cards[0], path)
    else:
        report_many(cards, "cards", path)


def _default_path(model: str, addresses: Sequence[str]) -> Path:
    if len(addresses) > 1:
        return Path(f"{file_name(model)}-cards{PAGE}")
    return Path(f"{file_name(model)}-{addresses[0].replace(':', '-')}.png")


def _report_one(card: Card, path: Path) -> None:
    """Print what was found."""
    from captum_vit.cards.words import small_print

    stdout, how = console.stdout(), small_print(card)[0]
    stdout.print(f"[bold]{escape(card.address)}[/] of {escape(card.model)}")
    stdout.print(f"  optimized image  activation {card.optimized.activation:.3g} after {how}")
    stdout.print(f"  photos           best {len(card.photos)} of {card.images}")
    for photo in card.photos:
        stdout.print(f"                   activation {photo.activation:.3g}, {escape(str(photo.path))}")
    stdout.print(f"  card             [green]{escape(str(path))}[/]")
