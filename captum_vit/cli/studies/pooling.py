"""The command ``captum-vit study pooling``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Study


def pooling(
    models: running.Models,
    images: running.Images,
    out: running.Out,
    labels: running.Labels = None,
    classifier: running.ClassifierKind = "auto",
    batch_size: running.BatchSize = 32,
    checkpoint: running.Checkpoints = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """What the class token's classifier makes of the patches: their mean, each one, the best one."""
    asked = running.Asked(models, out, checkpoint, random_weights, seed, device)
    files = running.labelled(images, labels)

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies

        return studies.pooling(
            vit,
            files,
            name=name,
            classifier=classifier,
            seed=seed,
            batch_size=batch_size,
            keep=out,
        )

    running.run("pooling", asked, measured)
