"""The command ``captum-vit study background``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from captum_vit.cli import words
from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO


def background(
    models: running.Models,
    images: running.Images,
    boxes: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder of bounding boxes (ImageNet's .xml) or masks (.png), named as the images are."
        ),
    ],
    out: running.Out,
    labels: running.Labels = None,
    fill: Annotated[
        str,
        typer.Option(
            callback=words.fill,
            help="What stands where the image is cut away: zero after normalization, the image's mean colour, or blur.",
        ),
    ] = words.FILLS[0],
    classifier: running.ClassifierKind = "auto",
    batch_size: running.BatchSize = 32,
    checkpoint: running.Checkpoints = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """How much accuracy is left with the objects alone, and with all but the objects, from boxes or masks."""
    asked = running.Asked(models, out, checkpoint, random_weights, seed, device)
    files = running.labelled(images, labels)

    from captum_vit import studies

    measured = partial(
        studies.background,
        images=files,
        boxes=boxes,
        fill=fill,
        classifier=classifier,
        seed=seed,
        batch_size=batch_size,
        keep=out,
    )
    running.run("background", asked, measured)
