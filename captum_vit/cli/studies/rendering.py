"""What the commands of studies that render share: their options, and their contact sheets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console
from captum_vit.cli.plan import PlanChoice
from captum_vit.storage.files import shown
from captum_vit.storage.marks import file_name

if TYPE_CHECKING:
    from captum_vit.optvis.plan import PlanSettings

Units = Annotated[int, typer.Option(min=1, help="Neurons of each site to render, drawn by the seed.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Neurons to render at a time.")]


def settings(how: PlanChoice, seed: int) -> PlanSettings:
    """What a study's function takes of how to render."""
    return {
        "recipe": how.recipe,
        "steps": how.steps,
        "size": how.size,
        "canvas": how.canvas,
        "dtype": how.dtype,
        "seed": seed,
    }


def sheet(out: Path, study: str, model: str) -> Path:
    """Where a model's contact sheet goes."""
    return out / f"{study}-{file_name(model)}.png"


def tell_sheets(out: Path, study: str, models: Iterable[str]) -> None:
    """Print where contact sheets are."""
    for model in models:
        console.stdout().print(f"  renders [green]{escape(shown(sheet(out, study, model)))}[/]")
