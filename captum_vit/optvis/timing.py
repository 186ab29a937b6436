"""How long renders take on this machine, from a few steps, and the word on it before they start."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import torch

from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.rendering import render_batches
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.progress import foretell

# Steps that a calibration takes, of which the first, which also allocates, does not count.
_STEPS = 3
# Where the whole is not many times the steps of two batches that a calibration takes, it is soon done.
_STEPS_WORTH_TELLING = 100

# A model, neurons of it, and how to render them.
Work: TypeAlias = tuple[AdaptedModel, Sequence[str], RenderPlan]


def foretell_renders(title: str, work: Sequence[Work], batch_size: int = 8) -> None:
    """Say how long renders will take, if that is more than a minute.

    Parameters
    ----------
    title
        What takes so long.
    work
        Neurons that are to be rendered.
    batch_size
        Neurons to render at a time.
    """
    steps = sum(plan.steps * -(-len(neurons) // batch_size) for _, neurons, plan in work)
    if steps >= _STEPS_WORTH_TELLING:
        foretell(title, sum(seconds_to_render(vit, neurons, plan, batch_size) for vit, neurons, plan in work))


def seconds_of_batch(vit: AdaptedModel, neurons: Sequence[str], plan: RenderPlan) -> float:
    """Seconds to render one batch of neurons by a plan.

    Parameters
    ----------
    vit
        The adapted model.
    neurons
        Addresses; all are rendered at once.
    plan
        How. A few steps are taken, by each of its contenders.
    """
    ticks: list[float] = []

    def tick(_: int) -> None:
        if vit.device.type == "cuda":
            torch.cuda.synchronize(vit.device)
        ticks.append(time.perf_counter())

    short = replace(plan, steps=_STEPS * max(1, len(plan.recipe.contenders)))
    for _ in render_batches(vit, neurons, short, batch_size=len(neurons), on_step=tick):
        pass
    finish = time.perf_counter() - ticks[-1]
    a_step = (ticks[-1] - ticks[0]) / max(1, len(ticks) - 1)
    return a_step * plan.steps + finish


def seconds_to_render(vit: AdaptedModel, neurons: Sequence[str], plan: RenderPlan, batch_size: int = 8) -> float:
    """Seconds to render many neurons, as if the time grew evenly from the first site to the last.

    Parameters
    ----------
    vit
        The adapted model.
    neurons
        Addresses.
    plan
        How.
    batch_size
        Neurons to render at a time.
    """
    depths = {site.name: depth for depth, site in enumerate(vit.sites)}
    ordered = sorted((vit.canonical(neuron) for neuron in neurons), key=lambda address: depths[address.site])
    if not ordered:
        return 0.0
    ends = [batch for batch in (ordered[:batch_size], ordered[-batch_size:]) if batch]
    a_neuron = [seconds_of_batch(vit, batch, plan) / len(batch) for batch in ends]
    return len(ordered) * sum(a_neuron) / 2
