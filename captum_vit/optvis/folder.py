"""Rendering many neurons into a folder: what is there already is kept, and what is finished stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from captum_vit.optvis.recipe import Recipe
from captum_vit.optvis.recipes import find_recipe
from captum_vit.optvis.rendering import render, render_settings
from captum_vit.optvis.results import Render, Renders, png_path
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import Size
from captum_vit.progress import progress_bar


def render_into(
    folder: str | Path,
    vit: AdaptedModel,
    neurons: Sequence[str],
    *,
    origin: Mapping[str, Any],
    recipe: str | Recipe = "ghiasi2022",
    steps: int | None = None,
    size: Size | None = None,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = True,
) -> Renders:
    """Render neurons batch by batch and write each batch as soon as it is finished.

    Interrupted and called again with the same arguments, it goes on with the neurons that are missing.

    Parameters
    ----------
    folder
        Where to write a PNG and a JSON for each neuron and a contact sheet; made if it is not there.
    vit
        The adapted model.
    neurons
        Addresses.
    origin
        What tells this model from others of its class, such as its name and weights. Recorded with the settings; a
        render that is there with other settings is made anew.
    recipe, steps, size, seed, batch_size
        As for :func:`captum_vit.render`.
    progress
        Whether to show a progress bar with the time left.

    Returns
    -------
    Renders
        All neurons, those that were there already included.
    """
    folder = Path(folder)
    recipe = find_recipe(recipe)
    steps = recipe.steps if steps is None else steps
    size = vit.preprocessing.size if size is None else size
    settings = render_settings(vit, recipe, steps, size, seed) | dict(origin)
    done = {neuron: found for neuron in neurons if (found := _saved(folder, neuron, settings))}
    missing = [neuron for neuron in dict.fromkeys(neurons) if neuron not in done]
    with progress_bar("Rendering", len(missing) * steps, disable=not progress) as advance:
        for first in range(0, len(missing), batch_size):
            batch = missing[first : first + batch_size]
            width = len(batch)
            for made in render(
                vit,
                batch,
                recipe=recipe,
                steps=steps,
                size=size,
                seed=seed,
                batch_size=width,
                progress=False,
                callback=lambda finished, total, width=width: advance(width),  # type: ignore[misc]
            ):
                done[made.neuron] = replace(made, settings=settings)
                done[made.neuron].save(folder)
    renders = Renders(tuple(done[neuron] for neuron in dict.fromkeys(neurons)))
    renders.save_sheet(folder)
    return renders


def _saved(folder: Path, neuron: str, settings: Mapping[str, Any]) -> Render | None:
    """The render of a neuron that is in the folder, if it was made with the same settings."""
    try:
        found = Render.load(png_path(folder, neuron))
    except (OSError, ValueError, KeyError):  # missing, or not a render's files
        return None
    return found if found.neuron == neuron and found.settings == settings else None
