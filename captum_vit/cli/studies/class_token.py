"""The command ``captum-vit study class-token``."""

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

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies

        return studies.class_token(
            vit,
            files,
            name=name,
            blocks=block or None,
            classifier=classifier,
            seed=seed,
            batch_size=batch_size,
            keep=out,
        )

    running.run("class-token", asked, measured)
