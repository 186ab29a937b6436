"""The command ``captum-vit study attention``."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli import console, words
from captum_vit.cli.model import Device, ModelChoice, RandomWeights, Seed
from captum_vit.cli.plan import Canvas, Dtype, PlanChoice, RecipeName, Size, Steps
from captum_vit.cli.studies import rendering, running
from captum_vit.errors import UnsupportedModelError
from captum_vit.probes.devices import AUTO
from captum_vit.probes.kinds import ATTENTION, KINDS

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Study


def attention(
    models: running.Models,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of images, searched with its subfolders.")],
    out: running.Out,
    units: rendering.Units = 8,
    limit: Annotated[int, typer.Option(min=1, help="Images to take, at most; drawn by the seed.")] = 256,
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
    """What queries, keys and values show when images are optimized for them, beside the feed-forward block's neurons.

    Models that have no sites of a kind are measured without it, and the reason is told.
    """
    how = PlanChoice(recipe, steps, size, dtype, canvas=canvas).checked()
    asked = _AllKinds(models, out, checkpoint, random_weights, seed, device)

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies
        from captum_vit.plots import save_figure
        from captum_vit.studies.sheets import attention_sheet

        made = studies.attention(
            vit,
            images,
            name=name,
            units=units,
            limit=limit,
            batch_size=batch_size,
            keep=out,
            **rendering.settings(how, seed),
        )
        save_figure(attention_sheet(made, name, out), rendering.sheet(out, "attention", name))
        return made

    running.run("attention", asked, measured)
    rendering.tell_sheets(out, "attention", [choice.full_name for choice in asked.choices])


class _AllKinds(running.Asked):
    """Models with the sites of all kinds that each has."""

    @cached_property
    def choices(self) -> list[ModelChoice]:
        """The models, each once; what one lacks is told, once."""
        return [replace(choice, kinds=_kinds(choice)) for choice in super().choices]


def _kinds(choice: ModelChoice) -> tuple[str, ...]:
    found = []
    for kind in KINDS:
        try:
            with replace(choice, kinds=(kind,)).sketch():
                found.append(kind)
        except UnsupportedModelError as error:
            if kind == ATTENTION:
                console.warn(str(error))
    return tuple(found)
