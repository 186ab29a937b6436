"""The command ``captum-vit study class-token``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO


def class_token(
    models: running.Models,
    images: running.Images,
    out: running.Out,
    labels: running.Labels = None,
    block: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Number n of a block, from 0; may be repeated. When not given, all of the model's."),
    ] = None,
    classifier: running.ClassifierKind = "auto",
    batch_size: running.BatchSize = 32,
    checkpoint: running.Checkpoints = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Where the class token needs the patches: cut off from them until block n, and alone from block n on."""
    asked = running.Asked(models, out, checkpoint, random_weights, seed, device)
    files = running.labelled(images, labels)

    from captum_vit import studies

    measured = partial(
        studies.class_token,
        images=files,
        blocks=block or None,
        classifier=classifier,
        seed=seed,
        batch_size=batch_size,
        keep=out,
    )
    running.run("class-token", asked, measured)
