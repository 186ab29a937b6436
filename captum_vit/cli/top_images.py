"""The command ``captum-vit top-images``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console
from captum_vit.cli.model import Checkpoint, Device, Model, RandomWeights, Seed, adapted, find_device, origin_of


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
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write (.safetensors).")],
    k: Annotated[int, typer.Option("-k", min=1, help="Images to keep for each unit.")] = 10,
    sites: Annotated[
        list[str] | None, typer.Option(metavar="SITE", help="Site to look at; may be repeated. All when not given.")
    ] = None,
    reduction: Annotated[
        str, typer.Option(help="Over the patches: mean, or max, which also tells the patch.")
    ] = "mean",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images; 0: none but this.")] = 0,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Find the most activating images of every unit in one pass.

    Interrupted and started again with the same arguments, it goes on where it was; FILE.partial holds what is done.
    """
    from captum_vit.data.images import find_images, read_list
    from captum_vit.models.build import build_without_weights
    from captum_vit.probes.adapted import adapt
    from captum_vit.ranking.search import find_reduction
    from captum_vit.ranking.search import top_images as rank
    from captum_vit.ranking.storage import SUFFIXES
    from captum_vit.storage.files import check_output

    # Everything that can be wrong with the question comes before weights are fetched and images read.
    find_reduction(reduction)
    files = [
        file for place in images for file in (read_list(place) if place.suffix == ".txt" else find_images([place]))
    ]
    place = find_device(device)
    with adapt(build_without_weights(model)) as sketch:
        for site in sites or ():
            sketch.site(site)
    check_output(out, SUFFIXES)

    partial = out.with_name(f"{out.name}.partial")
    origin = origin_of(model, checkpoint, random_weights)
    with adapted(model, checkpoint, random_weights, seed, place) as vit:
        result = rank(
            vit,
            files,
            k,
            sites=sites or None,
            reduction=reduction,
            batch_size=batch_size,
            workers=workers,
            checkpoint=partial,
            origin=origin,
        )
    result.save(out)
    partial.unlink(missing_ok=True)

    console.warn_of_skipped(result.skipped)
    for site, activations in result.not_finite.items():
        console.warn(f"{site}: {activations} activations were NaN or infinite and are not ranked")
    units = sum(len(ranking.counts) for ranking in result.units.values())
    stdout = console.stdout()
    stdout.print(f"[bold]{units} units[/] at {len(result.sites)} sites of {escape(origin['name'])}")
    stdout.print(f"  images  {result.images}, the {k} best of each unit by {reduction} activation over the patches")
    stdout.print(f"  file    [green]{escape(str(out))}[/]")
