"""The command ``captum-vit study``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console, words
from captum_vit.cli.model import Device, ModelChoice, RandomWeights, Seed
from captum_vit.errors import StudyError
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import check_folder, shown

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.studies.study import Row, Study


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", callback=words.study, help="frequency or background.")],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", callback=words.models, help="Models, as for the other commands; ConvNets too."
        ),
    ],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder with a folder of images for each class.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to; made if it is not there.")],
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For background: folder of bounding boxes (ImageNet's .xml) or masks (.png), named as the images are.",
        ),
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option(
            callback=words.fill,
            help="For background, what stands where the image is cut away: zero after normalization, the image's mean "
            "colour, or blur. Zero when not given.",
        ),
    ] = None,
    radius: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            help="For frequency, where filters cut, in cycles per shorter side; may be repeated. When not given, "
            "2 to 64.",
        ),
    ] = None,
    classifier: Annotated[
        str,
        typer.Option(
            callback=words.classifier,
            help="own, the model's head; probe, a linear one that is fitted on half of the images; auto, the head if "
            "it knows the folder's labels.",
        ),
    ] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Measure what models use of their images, on a labelled folder: a table (.csv, .json) and a picture.

    frequency: accuracy on low-pass and high-pass filtered images. background: accuracy on objects alone, and on all
    but the objects. Files are written anew whenever a model is done.
    """
    # Everything that can be wrong with the question comes before weights are fetched and images read.
    _check_options(name, boxes, fill, radius)
    choices = [ModelChoice(model, None, random_weights, seed, device) for model in dict.fromkeys(models)]
    check_folder(out)
    for choice in choices:
        with choice.sketch() as sketch:
            sketch.check_takes_photos()

    from captum_vit import studies
    from captum_vit.plots import save_figure
    from captum_vit.studies.figures import draw_study
    from captum_vit.studies.frequency import RADII

    made: Callable[..., Study]
    if boxes is not None:  # which background alone takes, and needs
        made = partial(studies.background, boxes=boxes, fill=fill or words.FILLS[0])
    else:
        made = partial(studies.frequency, radii=radius or RADII)
    result: Study | None = None
    with console.keeping(f"the models that were finished are in {out}"):
        for choice in choices:
            console.stderr().print(f"{name} of {escape(choice.full_name)}", soft_wrap=True)
            with choice.loaded() as vit:
                one = made(vit, images, name=choice.full_name, classifier=classifier, seed=seed, batch_size=batch_size)
            result = one if result is None else result + one
            files = result.save(out)
            save_figure(draw_study(result), out / f"{name}.png")
    if result is not None:
        _report(result, [*files, out / f"{name}.png"])


def _check_options(name: str, boxes: Path | None, fill: str | None, radius: list[float] | None) -> None:
    """Options of one study say nothing to another."""
    if name == "background" and boxes is None:
        raise StudyError("background needs to know where objects are; give a folder of boxes or masks with --boxes")
    given = {"--boxes": boxes, "--fill": fill} if name == "frequency" else {"--radius": radius}
    if unused := [option for option, value in given.items() if value]:
        raise StudyError(f"{unused[0]} says nothing to the study {name}; leave it out")


def _report(study: Study, files: list[Path]) -> None:
    from rich.table import Table

    stdout = console.stdout()
    shown_columns = [column for column in study.columns if not column.startswith(("low ", "high "))]
    table = Table(*shown_columns, box=None, header_style="bold", pad_edge=False)
    for row in study.rows:
        table.add_row(*(escape(_cell(row, column)) for column in shown_columns))
    stdout.print(table)
    for model, facts in study.models.items():
        stdout.print(
            f"[bold]{escape(model)}[/]  {facts['images']} images, {facts['classes']} classes, {facts['classifier']}"
        )
        for reason, count in study.left_out(model).items():
            stdout.print(f"  {count} left out: {escape(shown(reason))}")
    for file in files:
        stdout.print(f"  file    [green]{escape(shown(file))}[/]")


def _cell(row: Row, column: str) -> str:
    value = row[column]
    if value is None:
        return "-"
    if isinstance(value, float) and column != "radius":
        share = f"{100 * value:.1f} %"
        ends = [row.get(f"{end} {column}") for end in ("low", "high")]
        return share if None in ends else f"{share} ({'-'.join(f'{100 * float(end or 0):.1f}' for end in ends)})"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
