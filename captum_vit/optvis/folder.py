"""Rendering many neurons into a folder: what is there already is kept, and what is finished stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.rendering import render_batches
from captum_vit.optvis.results import Render, Renders, png_path
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.progress import progress_bar


def render_into(
    folder: str | Path,
    vit: AdaptedModel,
    neurons: Sequence[str],
    plan: RenderPlan,
    *,
    batch_size: int = 8,
    progress: bool = True,
) -> Renders:
    """Render neurons batch by batch and write each batch as soon as it is finished.

    Interrupted and called again with an equal plan, it goes on with the neurons that are missing.

    Parameters
    ----------
    folder
        Where to write a PNG and a JSON for each neuron and a contact sheet; made if it is not there.
    vit
        The adapted model.
    neurons
        Addresses.
    plan
        How to render. It is written beside each image; one that is there by another plan is made anew.
    batch_size
        Neurons to render at a time.
    progress
        Whether to show a progress bar with the time left.

    Returns
    -------
    Renders
        All neurons, those that were there already included.
    """
    folder = Path(folder)
    neurons = [vit.canonical(neuron) for neuron in neurons]
    done = {neuron: found for neuron in neurons if (found := _saved(folder, neuron, plan))}
    missing = [neuron for neuron in dict.fromkeys(neurons) if neuron not in done]
    with progress_bar("Rendering", len(missing) * plan.steps, disable=not progress) as advance:
        for batch in render_batches(vit, missing, plan, batch_size=batch_size, on_step=advance):
            for made in batch.values():
                made.save(folder)
                done[made.neuron] = made
    renders = Renders(tuple(done[neuron] for neuron in dict.fromkeys(neurons)))
    renders.save_sheet(folder)
    return renders


def _saved(folder: Path, neuron: str, plan: RenderPlan) -> Render | None:
    """The render of a neuron that is in the folder, if it was made by an equal plan."""
    try:
        found = Render.load(png_path(folder, neuron))
    except (OSError, ValueError, KeyError):  # missing, or not a render's files
        return None
    return found if found.neuron == neuron and plan.repeats(found.settings) else None
