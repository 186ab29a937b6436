"""Rendering many neurons into a folder: what is there already is kept, and what is finished stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from captum_vit.checks import check_adapted, some, whole_number
from captum_vit.errors import PlanError
from captum_vit.optvis.keeping import mark_of_render, place_of_render
from captum_vit.optvis.plan import PlanSettings, RenderPlan, resolve
from captum_vit.optvis.rendering import EXAMPLE, render_batches
from captum_vit.optvis.results import Render, Renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.address import Address
from captum_vit.progress import progress_bar
from captum_vit.storage.files import check_folder


def render_into(
    folder: str | Path,
    vit: AdaptedModel,
    neurons: str | Sequence[str],
    plan: RenderPlan | None = None,
    *,
    batch_size: int = 8,
    progress: bool = True,
    **settings: Unpack[PlanSettings],
) -> Renders:
    """Render neurons batch by batch and write each batch as soon as it is finished.

    Interrupted and called again with an equal plan, it goes on with the neurons that are missing. What is there by
    another plan stays there: where two want the same name, the later one's has a part of its plan's checksum behind it.

    Parameters
    ----------
    folder
        Where to write a PNG and a JSON for each neuron and a contact sheet; made if it is not there.
    vit
        The adapted model.
    neurons
        An address, or several.
    plan
        How to render, instead of ``settings``. It is written beside each image.
    batch_size
        Neurons to render at a time.
    progress
        Whether to show a progress bar with the time left.
    **settings
        As for :func:`captum_vit.render`.

    Returns
    -------
    Renders
        All neurons, those that were there already included.

    Raises
    ------
    AddressError
        An address is malformed or names what the model does not have.
    RecipeError
        There is no such recipe.
    PlanError
        There is no neuron, a setting means nothing, or there are settings beside a plan.
    OutputError
        The folder cannot be made or written.
    """
    check_adapted(vit)
    whole_number("batch_size", batch_size, error=PlanError)
    asked = [neurons] if isinstance(neurons, str) else some("neurons", neurons, EXAMPLE, PlanError)
    neurons = [vit.canonical(neuron) for neuron in asked]
    plan = resolve(vit, plan, {}, settings)
    folder = Path(folder)
    check_folder(folder)
    done = {neuron: found for neuron in neurons if (found := saved(folder, neuron, plan))}
    missing = [neuron for neuron in dict.fromkeys(neurons) if neuron not in done]
    with progress_bar("Rendering", len(missing) * plan.steps, disable=not progress) as advance:
        for batch in render_batches(vit, missing, plan, batch_size=batch_size, on_step=advance):
            for made in batch.values():
                made.save(folder)
                done[made.neuron] = made
    renders = Renders(tuple(done[neuron] for neuron in dict.fromkeys(neurons)))
    return replace(renders, sheet=renders.save_sheet(folder))


def missing_in(folder: Path | None, neurons: Sequence[Address], plan: RenderPlan) -> list[Address]:
    """Neurons whose renders by an equal plan are not in a folder; all of them where there is none."""
    return [neuron for neuron in neurons if folder is None or saved(folder, neuron, plan) is None]


def saved(folder: Path, neuron: str, plan: RenderPlan) -> Render | None:
    """The render of a neuron that is in a folder, if it was made by an equal plan."""
    mark = mark_of_render(neuron, plan.settings, None)
    try:
        found = Render.load(place_of_render(folder, neuron, neuron, plan.settings, mark))
    except (OSError, ValueError, KeyError, SyntaxError):  # missing, or not a render's files
        return None
    return found if found.neuron == neuron and plan.repeats(found.settings) else None
