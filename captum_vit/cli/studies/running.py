"""What the commands of studies share: their options, and the way from those to tables, pictures and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.markup import escape

from captum_vit.cli import console, words
from captum_vit.cli.model import ModelChoice
from captum_vit.errors import StudyError
from captum_vit.probes.devices import AUTO
from captum_vit.probes.kinds import FEED_FORWARD
from captum_vit.storage.files import check_folder, shown

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Row, Study

Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL", callback=words.models, help="Models, as for the other commands; ConvNets too."),
]
Images = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder with a folder of images for each class; any folder with --labels.")
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Table of the images' classes: a line FILE,LABEL for each.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to; made if it is not there.")]
ClassifierKind = Annotated[
    str,
    typer.Option(
        "--classifier",
        callback=words.classifier,
        help="own, the model's head; probe, a linear one that is fitted on half of the images; neighbours, the vote of "
        "the 20 nearest of that half; auto, the head if it knows the images' labels, or else a probe.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images in a forward pass.")]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        help="File or folder with a model's weights, for each model in turn; the published ones when not given.",
    ),
]


class Measured(Protocol):
    """What measures a model: a study's function, to which everything else has been said."""

    def __call__(self, vit: AdaptedModel, *, name: str) -> Study:
        """From a model with its weights, on the device, and the name that tables give it, to its table."""
        ...


@dataclass(frozen=True)
class Asked:
    """Which models a study is to measure, and where: what the options of all studies say.

    Raises
    ------
    StudyError
        There are checkpoints, and not as many as models.
    """

    models: Sequence[str]
    out: Path
    checkpoints: Sequence[Path] | None = None
    random_weights: bool = False
    seed: int = 0
    device: str = AUTO
    kinds: tuple[str, ...] = (FEED_FORWARD,)

    def __post_init__(self) -> None:
        """Refuse checkpoints that are not as many as the models."""
        count = len(dict.fromkeys(self.models))
        if self.checkpoints and len(self.checkpoints) != count:
            raise StudyError(
                f"{len(self.checkpoints)} checkpoints for {count} models; give --checkpoint for each model in turn"
            )

    @property
    def choices(self) -> list[ModelChoice]:
        """The models, each once."""
        names = list(dict.fromkeys(self.models))
        checkpoints: Sequence[Path | None] = self.checkpoints or [None] * len(names)
        return [
            ModelChoice(name, checkpoint, self.random_weights, self.seed, self.device, self.kinds)
            for name, checkpoint in zip(names, checkpoints, strict=True)
        ]


def run(study: str, asked: Asked, measured: Measured) -> None:
    """Measure the models one after another; files are written anew whenever one is done, and all is told at the end.

    What the folder has already of the study stays in its table.

    Parameters
    ----------
    study
        Its name.
    asked
        The models, and where files go.
    measured
        What measures one. It should keep what it does in the folder, so that nothing is measured twice.

    Raises
    ------
    StudyError
        The only model cannot be measured, or none of several can; of several, one that cannot is told at the end.
    """
    # Everything that can be wrong with the question comes before weights are fetched and images read.
    choices = asked.choices
    check_folder(asked.out)
    for choice in choices:
        with choice.sketch() as sketch:
            sketch.check_takes_photos()

    from captum_vit.plots import save_figure
    from captum_vit.studies.figures import draw_study
    from captum_vit.studies.keeping import add_to, kept_in

    picture = asked.out / f"{study}.png"
    whole: Study | None = None
    refused: dict[str, str] = {}
    with console.keeping(f"the models that were finished are in {asked.out}, and what was started goes on from there"):
        for choice in choices:
            console.stderr().print(f"{study} of {escape(choice.full_name)}", soft_wrap=True)
            try:
                before = kept_in(asked.out, study)
                with choice.loaded() as vit:
                    one = measured(vit, name=choice.full_name)
                whole = add_to(asked.out, one)
                if before is not None and choice.full_name in before.models and before.of(choice.full_name) == one:
                    console.stderr().print("It was measured before, with the same settings.")
            except StudyError as error:
                if len(choices) == 1:
                    raise
                refused[choice.full_name] = str(error)  # which says nothing of the others
                continue
            save_figure(draw_study(whole), picture)
    for name, reason in refused.items():
        console.warn(f"{name} is left out: {reason}")
    if whole is None:
        raise StudyError("no model could be measured")
    _report(whole, [*whole.files(asked.out), picture])


def labelled(images: Path, labels: Path | None) -> dict[str, str]:
    """The image files of a folder, and what they are of: from a table, or by their folders' names.

    Raises
    ------
    LabelError
        The table has no label for an image, or an image is in no folder of its own class.
    ImageError
        There is no image in the folder.
    """
    from captum_vit.data.images import find_images
    from captum_vit.data.labels import labelled_files, read_labels

    if labels is None:
        return labelled_files(images)
    files = [str(file) for file in find_images([images])]
    return dict(zip(files, read_labels(labels, files), strict=True))


def _report(study: Study, files: Sequence[Path]) -> None:
    from rich.table import Table

    stdout = console.stdout()
    hidden = ("low ", "high ", "parameters")
    shown_columns = [column for column in study.columns if not column.startswith(hidden)]
    table = Table(*shown_columns, box=None, header_style="bold", pad_edge=False)
    for row in study.rows:
        table.add_row(*(escape(_cell(row, column, column in study.shares)) for column in shown_columns))
    # Rather lines that are too long for a console than values without their ends.
    stdout.width = max(stdout.width, stdout.measure(table, options=stdout.options.update_width(1000)).maximum)
    stdout.print(table)
    for model in study.models:
        stdout.print(f"[bold]{escape(model)}[/]  {escape(_facts(study, model))}")
        for reason, count in study.left_out(model).items():
            stdout.print(f"  {count} left out: {escape(shown(reason))}")
    for file in files:
        stdout.print(f"  file    [green]{escape(shown(file))}[/]")


def _facts(study: Study, model: str) -> str:
    """A model's size, its accuracy, and what it was measured with, as far as the study has them."""
    facts = study.models[model]
    told = [f"{facts['parameters']:,} parameters"]
    if "top-1" in facts:
        told.append(f"top-1 {100 * facts['top-1']:.1f} %")
    told += [f"{facts[name]:,} {name}" for name in ("images", "classes") if name in facts]
    return ", ".join([*told, *([facts["classifier"]] if "classifier" in facts else [])])


def _cell(row: Row, column: str, is_share: bool) -> str:
    """A value with its interval, if it has one."""
    low, high = (row.get(f"{end} {column}") for end in ("low", "high"))
    value = _worded(row[column], is_share)
    if low is None or high is None:
        return value
    return f"{value} ({_worded(low, is_share).removesuffix(' %')}-{_worded(high, is_share).removesuffix(' %')})"


def _worded(value: str | int | float | None, is_share: bool) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if is_share:
        return f"{100 * value:.1f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
