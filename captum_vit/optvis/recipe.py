"""The declaration of how an image is optimized, which the render loop carries out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_vit.optvis.parametrizations import Parametrization
from captum_vit.optvis.transforms import Transform
from captum_vit.probes.hookspecs import Offered, captum_vit_recipes


@dataclass(frozen=True)
class Recipe(Offered):
    """How to optimize an image.

    Attributes
    ----------
    name
        What ``render(..., recipe=name)`` calls it.
    parametrization
        How the image is written as parameters.
    transforms
        From the number of steps, the transforms that each step applies to an image, in order; made anew for each
        neuron, so that they may keep count. Any Lucent transform will do. One that repeats the image makes an
        ensemble.
    penalty
        Of the transformed images ``(copies, 3, H, W)``, before normalization: what is added to the loss.
    optimizer
        From the parameters, the optimizer.
    schedule
        From the optimizer and the number of steps, the learning-rate schedule.
    steps
        Number of steps.
    source
        Where the recipe comes from.
    """

    hook = captum_vit_recipes.__name__
    name: str
    parametrization: Parametrization
    transforms: Callable[[int], Sequence[Transform]]
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]
    steps: int
    source: str
    penalty: Callable[[Tensor], Tensor] | None = None
    schedule: Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler] | None = None
