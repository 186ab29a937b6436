"""The command ``captum-vit card``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console
from captum_vit.cli.model import (
    DEFAULT_MODEL,
    DEFAULT_NEURON,
    Checkpoint,
    Device,
    RandomWeights,
    RecipeName,
    Seed,
    Steps,
    adapted,
    default_neuron,
    file_name,
    find_device,
    full_name,
)

if TYPE_CHECKING:
    from captum_vit.card import Card

PAGE = ".html"
# More cards than these make a picture that few programs open.
MOST_IN_A_PICTURE = 16


def card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A timm model, or the embedded one.")] = DEFAULT_MODEL,
    neurons: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SITE:UNIT...",
            help="The neuron, such as blocks.8:42; or several, also as SITE:0-63, SITE:all or SITE:random:16. "
            f"{DEFAULT_NEURON} where the model is {DEFAULT_MODEL} and none is named.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Folder of photos (searched with its subfolders) or one photo; may be repeated. "
            "The photos that come with the package when not given.",
        ),
    ] = None,
    top: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Saved result of `captum-vit top-images`, instead of --images."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Photos on a card.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Picture (.png, .pdf, .svg ...) or page (.html) to write. When not given, MODEL-SITE-UNIT.png here "
            "for one neuron, MODEL-cards.html for several.",
        ),
    ] = None,
    renders: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of renders, as `captum-vit render` writes: those with the same settings are taken, the others "
            "are put there, so that an interrupted run goes on where it stopped.",
        ),
    ] = None,
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
    from captum_vit.adapted import adapt
    from captum_vit.card import assemble, rank_photos
    from captum_vit.card_figure import draw_cards
    from captum_vit.card_page import write_page
    from captum_vit.checkpoints import build_without_weights
    from captum_vit.errors import CaptumViTError
    from captum_vit.images import find_images
    from captum_vit.models import default_photos
    from captum_vit.output import OutputError, check_folder, check_output
    from captum_vit.photos import most_activating
    from captum_vit.plots import FORMATS, save_figure
    from captum_vit.ranking import TopImages
    from captum_vit.recipes import find_recipe
    from captum_vit.render_folder import render_into
    from captum_vit.rendering import render
    from captum_vit.selection import select_neurons

    # Everything that can be wrong with the question comes before weights are fetched and images optimized.
    find_recipe(recipe)
    if top and images:
        raise CaptumViTError("--top and --images exclude each other; the file of --top names its images")
    photos = TopImages.load(top) if top else find_images(images) if images else default_photos()
    place = find_device(device)
    with adapt(build_without_weights(model)) as sketch:
        addresses = select_neurons(sketch, neurons or [default_neuron(model, sketch)], seed)
    path = out or _default_path(model, addresses)
    check_output(path, [*FORMATS, PAGE])
    is_page = path.suffix.lower() == PAGE
    if len(addresses) > MOST_IN_A_PICTURE and not is_page:
        raise OutputError(
            f"{path} would be a picture of {len(addresses)} cards; write a page instead, --out FILE{PAGE}"
        )
    if renders:
        check_folder(renders)

    name = full_name(model, random_weights)
    with adapted(model, checkpoint, random_weights, seed, place) as vit:
        ranking = rank_photos(vit, addresses, photos, k=k)
        best = most_activating(vit, addresses, ranking, k=k)
        if renders:
            # As `captum-vit render` records it, so that the two share their folders.
            origin = {"name": name, "weights": "random" if random_weights else str(checkpoint or "published")}
            made = render_into(renders, vit, addresses, origin=origin, recipe=recipe, steps=steps, seed=seed)
        else:
            made = render(vit, addresses, recipe=recipe, steps=steps, seed=seed)
    cards = assemble(made, best, ranking, name)
    if is_page:
        write_page(cards, path)
    else:
        save_figure(draw_cards(cards), path)
    _report(cards, path)


def _default_path(model: str, addresses: Sequence[str]) -> Path:
    if len(addresses) > 1:
        return Path(f"{file_name(model)}-cards{PAGE}")
    return Path(f"{file_name(model)}-{addresses[0].replace(':', '-')}.png")


def _report(cards: Sequence[Card], path: Path) -> None:
    """Print what was found, and what was not as it should be."""
    first = cards[0]
    if first.skipped:
        files = "1 file was" if len(first.skipped) == 1 else f"{len(first.skipped)} files were"
        console.warn(f"{files} skipped:")
        for reason in first.skipped:
            console.stderr().print(f"  {escape(reason)}", soft_wrap=True)
    for each in cards:
        if each.optimized.problem:
            console.warn(f"{each.address}: the optimized image means little: {each.optimized.problem}")
    stdout = console.stdout()
    settings = first.optimized.settings
    how = f"{settings['steps']} steps of recipe {settings['recipe']}, seed {settings['seed']}"
    chosen = f"best {len(first.photos)} of {first.images}"
    if len(cards) == 1:
        stdout.print(f"[bold]{escape(first.address)}[/] of {escape(first.model)}")
        stdout.print(f"  optimized image  activation {first.optimized.activation:.3g} after {how}")
        stdout.print(f"  photos           {chosen}")
        for photo in first.photos:
            stdout.print(f"                   activation {photo.activation:.3g}, {escape(str(photo.path))}")
        stdout.print(f"  card             [green]{escape(str(path))}[/]")
    else:
        stdout.print(f"[bold]{len(cards)} neurons[/] of {escape(first.model)}")
        stdout.print(f"  optimized images {how}")
        stdout.print(f"  photos           {chosen} for each neuron")
        stdout.print(f"  cards            [green]{escape(str(path))}[/]")
