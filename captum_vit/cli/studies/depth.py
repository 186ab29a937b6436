"""The command ``captum-vit study depth``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli import words
from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.plan import Canvas, Dtype, PlanChoice, RecipeName, Size, Steps
from captum_vit.cli.studies import rendering, running
from captum_vit.probes.devices import AUTO

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Study


def depth(
    models: running.Models,
    out: running.Out,
    units: rendering.Units = 8,
    sites: Annotated[
        list[str] | None,
        typer.Option("--site", metavar="SITE", help="Site to look at; may be repeated. All when not given."),
    ] = None,
    control: Annotated[
        bool, typer.Option(help="Render the same neurons of the same architecture at random weights beside.")
    ] = True,
    recipe: RecipeName = words.DEFAULT_RECIPE,
    steps: Steps = None,
    size: Size = None,
    canvas: Canvas = None,
    dtype: Dtype = None,
    batch_size: rendering.BatchSize = 8,
    checkpoint: running.Checkpoints = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Whether optimized images go from fine structure to large with depth, beside random weights: no photos needed."""
    how = PlanChoice(recipe, steps, size, dtype, canvas=canvas).checked()
    asked = running.Asked(models, out, checkpoint, random_weights, seed, device)
    names = {choice.full_name: choice.name for choice in asked.choices}

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies
        from captum_vit.plots import save_figure
        from captum_vit.studies.sheets import depth_sheet

        beside = studies.untrained(names[name], seed=seed).to(vit.device) if control and not random_weights else None
        made = studies.depth(
            vit,
            beside,
            name=name,
            units=units,
            sites=sites,
            batch_size=batch_size,
            keep=out,
            **rendering.settings(how, seed),
        )
        save_figure(depth_sheet(made, name, out), rendering.sheet(out, "depth", name))
        return made

    running.run("depth", asked, measured)
    rendering.tell_sheets(out, "depth", names)
