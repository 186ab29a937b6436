"""The command ``captum-vit top-images``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console, words
from captum_vit.cli.model import Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import RANKINGS


def top_images(
    model: Model,
    images: Annotated[
        list[Path],
        typer.Option(
            metavar="DIR|FILE.txt",
            help="Folder of images (searched with its subfolders), or a text file with one path a line, relative to "
            "its own folder; may be repeated.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", callback=words.output(*RANKINGS), help="File to write (.safetensors).")
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Images to keep for each unit.")] = 10,
    sites: Annotated[
        list[str] | None, typer.Option(metavar="SITE", help="Site to look at; may be repeated. All when not given.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            callback=words.measure,
            is_eager=True,  # reductions are those of what is measured
            help="What is ranked by: activation, or relevance: what a neuron contributes to the model's own output, "
            "its top logit (of an embedding its norm), or to relevance:OUTPUT, a number, top, norm or sum.",
        ),
    ] = "activation",
    reduction: Annotated[
        str | None,
        typer.Option(
            callback=words.reduction,
            help="Over the patches: the mean of activations, the sum of relevances, or the max, which also tells the "
            "patch. When not given, not the max.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that read images; 0: none but this. When not given, up to 8 for an accelerator."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Find the images that excite every unit most, or to which it is most relevant, in one pass.

    Interrupted and started again with the same arguments, it goes on where it was; FILE.partial holds what is done.
    """
    from captum_vit.data.images import find_images, read_list
    from captum_vit.data.search import search_images
    from captum_vit.ranking.search import top_images as rank

    # Everything that can be wrong with the question comes before weights are fetched and images read.
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming(sites)
    files = [
        file for place in images for file in (read_list(place) if place.suffix == ".txt" else find_images([place]))
    ]
    with choice.sketch() as sketch:
        for site in sites or ():
            sketch.site(site)

    partial = out.with_name(f"{out.name}.partial")
    with choice.loaded() as vit:
        result = rank(
            vit,
            files,
            k,
            sites=sites or None,
            by=by,
            reduction=reduction,
            batch_size=batch_size,
            workers=workers,
            partial=partial,
            origin=choice.origin,
        )
    result.save(out)
    partial.unlink(missing_ok=True)

    for note in search_images([place for place in images if place.suffix != ".txt"]).notes():
        console.warn(note)
    console.warn_of_skipped(result.skipped)
    for site, values in result.not_finite.items():
        console.warn(f"{site}: {values} values were NaN or infinite and are not ranked")
    units = sum(len(ranking.counts) for ranking in result.units.values())
    stdout = console.stdout()
    stdout.print(f"[bold]{units} units[/] at {len(result.sites)} sites of {escape(choice.full_name)}")
    stdout.print(
        f"  images  {result.images}, the {k} best of each unit by {result.reduction} {result.by} over the patches"
    )
    stdout.print(f"  file    [green]{escape(str(out))}[/]")
