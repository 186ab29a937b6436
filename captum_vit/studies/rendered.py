"""Renders as studies take them: told how long they take, kept as they go, and measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vit.optvis.folder import missing_in, render_into
from captum_vit.optvis.plan import PlanSettings, RenderPlan
from captum_vit.optvis.rendering import render
from captum_vit.optvis.results import Render, Renders, to_pil
from captum_vit.optvis.timing import foretell_renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.address import Address
from captum_vit.storage.marks import file_name
from captum_vit.studies.bootstrap import interval
from captum_vit.studies.structure import correlation_width, mean_frequency
from captum_vit.studies.study import with_interval
from captum_vit.studies.trend import rising_pairs

Columns = dict[str, str | int | float | None]

# Columns of :func:`structure` and :func:`progression`, without the ends of their intervals; the latter are shares.
FREQUENCY, SCALE = STRUCTURE = ("frequency", "scale")
FINER, LARGER = PROGRESSION = ("finer with depth", "larger with depth")
# What the row of all sites together has in the place of one's name.
ALL_SITES = "all"
_AT_ONCE = 16  # renders, whose structure is measured together


@dataclass(frozen=True)
class Task:
    """Neurons of a model to render.

    Attributes
    ----------
    vit
        The adapted model.
    neurons
        Addresses.
    plan
        How.
    folder
        Where renders are kept, and taken from; None: nowhere.
    """

    vit: AdaptedModel
    neurons: Sequence[Address]
    plan: RenderPlan
    folder: Path | None


def render_all(tasks: Sequence[Task], *, batch_size: int, progress: bool) -> list[Renders]:
    """Render the neurons of all tasks; how long that takes is told before, where it is more than a minute."""
    if progress:
        work = [(task.vit, missing_in(task.folder, task.neurons, task.plan), task.plan) for task in tasks]
        foretell_renders(f"Rendering {sum(len(neurons) for _, neurons, _ in work)} neurons", work, batch_size)
    return [_as_kept(_rendered(task, batch_size, progress)) for task in tasks]


def _rendered(task: Task, batch_size: int, progress: bool) -> Renders:
    if task.folder is None:
        return render(task.vit, task.neurons, plan=task.plan, batch_size=batch_size, progress=progress)
    return render_into(task.folder, task.vit, task.neurons, task.plan, batch_size=batch_size, progress=progress)


def _as_kept(renders: Renders) -> Renders:
    """With the 8 bits that pictures in a folder have, so that a study comes to the same wherever it went on."""

    def rounded(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return (np.asarray(to_pil(image)) / 255).astype(np.float32)

    return replace(renders, renders=tuple(replace(each, image=rounded(each.image)) for each in renders))


def renders_folder(keep: str | Path | None, name: str, part: str = "") -> Path | None:
    """Where a model's renders are kept in a folder of results, if there is one."""
    return None if keep is None else Path(keep) / "renders" / file_name(name) / part


def settings_of(plan: RenderPlan, said: PlanSettings) -> dict[str, Any]:
    """What a study records of how its renders were asked for: the same for all models."""
    asked = {name: said.get(name) for name in ("size", "canvas", "dtype", "start")}
    return {
        "recipe": plan.recipe.name,
        "recipe_sha256": plan.settings["recipe_sha256"],
        "steps": plan.steps,
        "seed": plan.seed,
        **{name: value if value is None or isinstance(value, int) else str(value) for name, value in asked.items()},
    }


@dataclass(frozen=True)
class Measured:
    """A neuron's render and how fine its structure is.

    Attributes
    ----------
    render
        The render.
    frequency
        Mean spatial frequency in cycles per shorter side, NaN for an image of one colour.
    scale
        Width of the correlation as a share of the shorter side, likewise.
    """

    render: Render
    frequency: float
    scale: float

    @property
    def address(self) -> Address:
        """The neuron's."""
        return Address(self.render.neuron)

    @property
    def counts(self) -> bool:
        """Whether the render means something, and has structure."""
        return self.render.problem is None and not np.isnan(self.frequency)

    @property
    def record(self) -> dict[str, Any]:
        """What a study's file says of it."""
        return {
            "neuron": str(self.render.neuron),
            "activation": self.render.activation,
            "problem": self.render.problem,
            **{name: None if np.isnan(value) else value for name, value in zip(STRUCTURE, self.values, strict=True)},
        }

    @property
    def values(self) -> tuple[float, float]:
        """Frequency and scale."""
        return self.frequency, self.scale


def measure_all(renders: Iterable[Render]) -> list[Measured]:
    """Measure the structure of renders of one size."""
    made, measured = list(renders), []
    for start in range(0, len(made), _AT_ONCE):
        some = made[start : start + _AT_ONCE]
        pixels = torch.from_numpy(np.stack([each.image for each in some])).permute(0, 3, 1, 2)
        sizes = zip(some, mean_frequency(pixels).tolist(), correlation_width(pixels).tolist(), strict=True)
        measured += [Measured(each, frequency, scale) for each, frequency, scale in sizes]
    return measured


def mean_column(name: str, values: Sequence[float], seed: int) -> Columns:
    """A column of a mean over neurons, and those of its interval; None where there are none."""
    mean = float(np.mean(values)) if len(values) else None
    return {**with_interval(name, mean, interval(values, seed=seed))}


def counted(neurons: Sequence[Measured]) -> Columns:
    """How many renders mean something, and how many do not."""
    failed = sum(not neuron.counts for neuron in neurons)
    return {"units": len(neurons) - failed, "failed": failed}


def structure(neurons: Iterable[Measured], seed: int) -> Columns:
    """Mean frequency and scale of the renders that count, with their intervals over neurons."""
    counted = [neuron.values for neuron in neurons if neuron.counts]
    columns: Columns = {}
    for number, name in enumerate(STRUCTURE):
        columns |= mean_column(name, [values[number] for values in counted], seed)
    return columns


def progression(sites: Iterable[Iterable[Measured]], seed: int) -> Columns:
    """Whether renders get finer, and their structure larger, from site to site: shares of pairs, with intervals."""
    groups = [[neuron.values for neuron in neurons if neuron.counts] for neurons in sites]
    columns: Columns = {}
    for number, name in enumerate(PROGRESSION):
        found = rising_pairs([[values[number] for values in group] for group in groups], seed)
        columns |= with_interval(name, found[0], found[1:]) if found else with_interval(name, None, None)
    return columns


def no_progression() -> Columns:
    """The same columns for a row of one site, which tells none."""
    return {column: None for name in PROGRESSION for column in with_interval(name, None, None)}
