"""The command ``captum-vit study background``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli import words
from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Study


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

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies

        return studies.background(
            vit,
            files,
            boxes,
            name=name,
            fill=fill,
            classifier=classifier,
            seed=seed,
            batch_size=batch_size,
            keep=out,
        )

    running.run("background", asked, measured)
