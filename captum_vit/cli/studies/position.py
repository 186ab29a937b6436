"""The command ``captum-vit study position``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Study


def position(
    models: running.Models,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of images, searched with its subfolders.")],
    out: running.Out,
    patches: Annotated[int, typer.Option(min=1, help="Patches of each image that are replaced, one at a time.")] = 8,
    limit: Annotated[int, typer.Option(min=2, help="Images to take, at most; drawn by the seed.")] = 128,
    batch_size: running.BatchSize = 32,
    checkpoint: running.Checkpoints = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """How far patches keep their place through depth, and whether neurons answer to places or to whole images."""

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies

        return studies.position(vit, images, name=name, patches=patches, limit=limit, seed=seed, batch_size=batch_size)

    running.run("position", running.Asked(models, out, checkpoint, random_weights, seed, device), measured)
