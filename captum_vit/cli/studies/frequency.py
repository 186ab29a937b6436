"""The command ``captum-vit study frequency``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO


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

    from captum_vit import studies
    from captum_vit.studies.frequency import RADII

    measured = partial(
        studies.frequency,
        images=files,
        radii=radius or RADII,
        classifier=classifier,
        seed=seed,
        batch_size=batch_size,
        keep=out,
    )
    running.run("frequency", asked, measured)
