"""The command ``captum-vit render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from captum_vit.cli import console, words
from captum_vit.cli.model import DEFAULT_MODEL, Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.cli.neurons import Neurons, find_neurons
from captum_vit.cli.plan import Canvas, Dtype, PlanChoice, RecipeName, Size, Start, Steps
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import check_folder, shown
from captum_vit.storage.marks import file_name


def render(
    model: Model = DEFAULT_MODEL,
    neurons: Neurons = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder to write to, made if it is not there; MODEL-RECIPE-renders here when not given.",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    recipe: RecipeName = words.DEFAULT_RECIPE,
    steps: Steps = None,
    size: Size = None,
    canvas: Canvas = None,
    dtype: Dtype = None,
    start: Start = None,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Neurons to render at a time.")] = 8,
    device: Device = AUTO,
) -> None:
    """Render many neurons: a PNG and a JSON for each, and a contact sheet.

    What is in the folder with the same settings is kept, so that an interrupted run goes on where it stopped.
    """
    from captum_vit.optvis.folder import render_into

    # Everything that can be wrong with the question comes before weights are fetched and images optimized.
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming(neurons)
    how = PlanChoice(recipe, steps, size, dtype, start, canvas).checked()
    addresses = find_neurons(choice, neurons)
    out = out or Path(f"{choice.file_name}-{file_name(recipe)}-renders")
    check_folder(out)

    kept = console.keeping(f"the neurons that were finished are in {out}, and the same command goes on with the others")
    with kept, choice.loaded() as vit:
        plan = how.plan(choice, vit)
        how.foretell(vit, addresses, plan, out, batch_size)
        renders = render_into(out, vit, addresses, plan, batch_size=batch_size)

    for neuron, problem in renders.problems.items():
        console.warn(f"{neuron}: {problem}")
    neurons_in_words = "1 neuron" if len(renders) == 1 else f"{len(renders)} neurons"
    stdout = console.stdout()
    stdout.print(f"{neurons_in_words} of {escape(choice.full_name)}")
    stdout.print(f"  images         [green]{escape(shown(out))}[/]")
    stdout.print(f"  contact sheet  [green]{escape(shown(renders.sheet or out))}[/]")
