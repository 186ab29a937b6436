"""The command ``captum-vit study pooling``."""

from __future__ import annotations

from functools import partial

from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.studies import running
from captum_vit.probes.devices import AUTO


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

    from captum_vit import studies

    measured = partial(
        studies.pooling,
        images=files,
        classifier=classifier,
        seed=seed,
        batch_size=batch_size,
        keep=out,
    )
    running.run("pooling", asked, measured)
