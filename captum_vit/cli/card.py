"""The command ``captum-vit card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A timm model, or the embedded one.")] = DEFAULT_MODEL,
    neuron: Annotated[
        str | None,
        typer.Argument(
            metavar="SITE:UNIT",
            help=f"The neuron, such as blocks.8:42; {DEFAULT_NEURON} where the model is {DEFAULT_MODEL}.",
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
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Card to write (.png, .pdf, .svg ...); MODEL-SITE-UNIT.png here when not given."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    recipe: RecipeName = "fourier",
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Draw one neuron: its optimized image, its most activating photo, and where in that photo.

    Without arguments, a neuron of the small trained model that comes with the package.
    """
    from captum_vit.adapted import adapt
    from captum_vit.card import neuron_card
    from captum_vit.card_figure import draw_card
    from captum_vit.checkpoints import build_without_weights
    from captum_vit.images import find_images
    from captum_vit.models import default_photos
    from captum_vit.output import check_output
    from captum_vit.plots import FORMATS, save_figure
    from captum_vit.recipes import find_recipe

    # Everything that can be wrong with the question comes before weights are fetched and images optimized.
    find_recipe(recipe)
    photos = find_images(images) if images else default_photos()
    place = find_device(device)
    with adapt(build_without_weights(model)) as sketch:
        address = neuron or default_neuron(model, sketch)
        site, unit = sketch.address(address)
    path = out or Path(f"{file_name(model)}-{site.name}-{unit}.png")
    check_output(path, FORMATS)

    name = full_name(model, random_weights)
    with adapted(model, checkpoint, random_weights, seed, place) as vit:
        result = neuron_card(vit, address, photos, recipe=recipe, steps=steps, seed=seed, model=name)
    save_figure(draw_card(result), path)

    if result.skipped:
        files = "1 file was" if len(result.skipped) == 1 else f"{len(result.skipped)} files were"
        console.warn(f"{files} skipped:")
        for reason in result.skipped:
            console.stderr().print(f"  {escape(reason)}", soft_wrap=True)
    optimized, photo = result.optimized, result.photo
    if optimized.problem:
        console.warn(f"the optimized image means little: {optimized.problem}")
    stdout = console.stdout()
    stdout.print(f"[bold]{escape(result.address)}[/] of {escape(name)}")
    stdout.print(
        f"  optimized image  activation {optimized.activation:.3g} after {optimized.settings['steps']} steps of recipe "
        f"{recipe}, seed {seed}"
    )
    stdout.print(
        f"  photo            activation {photo.activation:.3g}, {escape(str(photo.path))}, best of {result.photos}"
    )
    stdout.print(f"  card             [green]{escape(str(path))}[/]")
