"""Rendering many neurons at once: ``captum_vit.render``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from typing_extensions import Unpack

from captum_vit.checks import check_adapted, some, whole_number
from captum_vit.errors import PlanError
from captum_vit.optvis.loop import RenderLoop
from captum_vit.optvis.losses import Objective, Target
from captum_vit.optvis.plan import PlanSettings, RenderPlan, resolve
from captum_vit.optvis.results import Render, Renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.devices import warn_if_idle
from captum_vit.probes.recording import recording
from captum_vit.probes.twin import frozen_twin
from captum_vit.progress import progress_bar

EXAMPLE = '["blocks.5:42"]'


def render(
    vit: AdaptedModel,
    neurons: str | Objective | Sequence[str | Objective],
    *,
    plan: RenderPlan | None = None,
    batch_size: int = 8,
    progress: bool = True,
    callback: Callable[[int, int], None] | None = None,
    **settings: Unpack[PlanSettings],
) -> Renders:
    """Optimize an image for each neuron.

    A neuron's image depends on the plan and the neuron, not on which others are rendered with it, nor on the batch
    size, up to the rounding of floating-point arithmetic. The same holds for objectives, which are told apart by all
    that is in them; of those whose content cannot be compared, the place among the others of their name counts too, and
    different ones of one name are numbered. Gradients are taken with respect to images only: no weight's
    flag or gradient changes, and no global generator is drawn from.

    Parameters
    ----------
    vit
        The adapted model.
    neurons
        An address (``"blocks.5:42"``), a Lucent objective, or several of either.
    plan
        What to do, resolved before (:meth:`captum_vit.optvis.plan.RenderPlan.of`), instead of ``settings``.
    batch_size
        Neurons to render at a time.
    progress
        Whether to show a progress bar with the time left.
    callback
        Called after each step with the numbers of finished steps and of all steps.
    **settings
        ``recipe``, ``steps``, ``size``, ``canvas``, ``seed``, ``dtype``, ``start``, ``origin``, as for
        :meth:`captum_vit.optvis.plan.RenderPlan.of`: the default recipe (``steady``), its number of steps and the
        model's own size when not given.

    Returns
    -------
    Renders
        Images, activation histories and what is needed to repeat them.

    Raises
    ------
    AddressError
        An address is malformed or names what the model does not have.
    RecipeError
        There is no such recipe.
    PlanError
        There is no neuron, a setting means nothing, or there are settings beside a plan.
    """
    check_adapted(vit)
    whole_number("batch_size", batch_size, error=PlanError)
    asked = [neurons] if isinstance(neurons, str) or callable(neurons) else some("neurons", neurons, EXAMPLE, PlanError)
    for neuron in asked:
        if not callable(neuron):
            vit.address(neuron)  # a wrong one is told before weights are read
    plan = resolve(vit, plan, {}, settings)
    done: dict[int, Render] = {}
    finished, total = 0, len(asked) * plan.steps
    with progress_bar("Rendering", total, disable=not progress) as advance:

        def on_step(neurons: int) -> None:
            nonlocal finished
            finished += neurons
            advance(neurons)
            if callback is not None:
                callback(finished, total)

        for batch in render_batches(vit, asked, plan, batch_size=batch_size, on_step=on_step):
            done |= batch
    return Renders(tuple(done[index] for index in range(len(asked))))


def render_batches(
    vit: AdaptedModel,
    neurons: Sequence[str | Objective],
    plan: RenderPlan,
    *,
    batch_size: int,
    on_step: Callable[[int], None],
) -> Iterator[dict[int, Render]]:
    """Render neurons batch by batch, each batch as soon as it is finished.

    Parameters
    ----------
    vit, neurons, plan, batch_size
        As for :func:`render`.
    on_step
        Called after each step with the number of neurons that took it.

    Yields
    ------
    dict
        The renders of a batch, by their place among the neurons.
    """
    whole_number("batch_size", batch_size, error=PlanError)
    warn_if_idle(vit)
    with recording():
        twin = frozen_twin(vit, plan.torch_dtype if plan.torch_dtype != vit.dtype else None)
    targets = Target.all_of(twin, neurons)
    # Neurons of like depth together, so that a batch runs no deeper than its neurons need.
    order = sorted(range(len(targets)), key=lambda index: targets[index].depth)
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        rounds = []
        for contender in plan.contenders:
            loop = RenderLoop(twin, [targets[index] for index in batch], contender)
            for _ in loop.steps():
                on_step(len(batch))
            rounds.append(loop.finish())
        yield dict(zip(batch, map(partial(_steadiest, plan), zip(*rounds, strict=True)), strict=True))


def _steadiest(plan: RenderPlan, candidates: tuple[Render, ...]) -> Render:
    """Of what contenders made of a neuron, the one that excites it most at its worst view."""
    if len(candidates) == 1:
        return candidates[0]
    # One that went wrong is taken if all did.
    chosen = max(candidates, key=lambda render: (render.problem is None, render.worst, render.activation))
    return replace(chosen, settings=plan.settings, made_by=chosen.settings["recipe"])
