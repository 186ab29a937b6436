"""The command ``captum-vit study frequency``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Study


def frequency(
    models: running.Models,
    images: running.Images,
    out: running.Out,
    labels: running.Labels = None,
    radius: Annotated[
        list[float] | None,
        typer.Option(
            min=0, help="Where filters cut, in cycles per shorter side; may be repeated. When not given, 2 to 64."
        ),
    ] = None,
    classifier: running.ClassifierKind = "auto",
    batch_size: running.BatchSize = 32,
    checkpoint: running.Checkpoints = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """How much accuracy is left without high, or without low frequencies: low-pass and high-pass filtered images."""
    asked = running.Asked(models, out, checkpoint, random_weights, seed, device)
    files = running.labelled(images, labels)

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies
        from captum_vit.studies.frequency import RADII

        return studies.frequency(
            vit,
            files,
            name=name,
            radii=radius or RADII,
            classifier=classifier,
            seed=seed,
            batch_size=batch_size,
            keep=out,
        )

    running.run("frequency", asked, measured)
