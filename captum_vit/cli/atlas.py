"""The command ``captum-vit atlas``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import filesize
from rich.markup import escape

from captum_vit.cli import completion, console, words
from captum_vit.cli.folders import OWN_PHOTOS, images_option
from captum_vit.cli.model import DEFAULT_MODEL, Checkpoint, Device, Model, ModelChoice, RandomWeights
from captum_vit.cli.neurons import Sites, find_neurons, neurons_argument
from captum_vit.cli.plan import Dtype
from captum_vit.errors import CaptumViTError
from captum_vit.probes.devices import AUTO
from captum_vit.probes.kinds import KINDS
from captum_vit.storage.files import shown

if TYPE_CHECKING:
    from captum_vit.atlas.engines.engine import Engine
    from captum_vit.atlas.making import Undertaking
    from captum_vit.atlas.reader import Atlas
    from captum_vit.atlas.settings import AtlasSettings

HERE = "of the folder, or else "


def _named_recipe(name: str | None) -> str | None:
    return None if name is None else words.recipe(name)


def atlas(
    model: Model = DEFAULT_MODEL,
    neurons: Annotated[list[str] | None, neurons_argument("all of the model when none is named")] = None,
    images: Annotated[list[Path] | None, images_option(OWN_PHOTOS, more=", or an archive (.tar)")] = None,
    k: Annotated[int | None, typer.Option("-k", "--top-k", min=1, help=f"Photos of each neuron; {HERE}10.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Folder to write to, or to go on with; MODEL-atlas here when not given."),
    ] = None,
    sites: Sites = None,
    units: Annotated[str, typer.Option("--units", hidden=True)] = "all",
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            callback=words.kinds,
            help=f"Kind of sites: {', '.join(KINDS)}, or all; may be repeated. Without it, the kinds of the folder, or "
            "of the neurons that are named.",
        ),
    ] = None,
    reduction: Annotated[
        str | None, typer.Option(callback=words.reduction, help=f"Of activations over the patches; {HERE}mean.")
    ] = None,
    relevance: Annotated[
        bool | None,
        typer.Option("--relevance", help="Rank photos by relevance to the model's output, too.", show_default=False),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            callback=_named_recipe,
            autocompletion=completion.recipes,
            help=f"How to optimize images; {HERE}{words.DEFAULT_RECIPE}.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help=f"Steps of the optimization; {HERE}the recipe's.")] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help=f"Side of the optimized images in pixels; {HERE}the model's input size.")
    ] = None,
    dtype: Dtype = None,
    seed: Annotated[int | None, typer.Option(min=0, help=f"Seed of whatever is drawn; {HERE}0.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help=f"Neurons to render at a time; {HERE}8, and 64 on an accelerator.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that share the work, each with the model in memory; 1: this one alone. When not given, as "
            "many as there are processors, at most 8, or accelerators. With --ray, actors.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS", help="Share the work by Ray: started on this machine, or the cluster at an address."
        ),
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(min=0.0, help="With --ray, GPUs of an actor: 1 where there are some, or a fraction.")
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="open_clip:MODEL/WEIGHTS|transformers:MODEL",
            help="Name neurons by the words whose text this CLIP finds nearest to what excites them.",
        ),
    ] = None,
    word_list: Annotated[
        Path | None,
        typer.Option("--words", metavar="FILE", help="Words to name neurons with, one a line, instead of the bundled."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and stop there.")] = False,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    device: Device = AUTO,
) -> None:
    """Make an atlas: every neuron of a model rendered, with the photos that excite it, in a folder to browse and query.

    Interrupted, killed or moved to another machine, the same command goes on where it was; one that asks for other
    neurons adds them. Without arguments, an atlas of the small trained model that comes with the package.
    """
    from captum_vit.atlas.making import carry_out, name_with, undertake
    from captum_vit.atlas.source import NamedModel

    choice = ModelChoice(model, checkpoint, random_weights, seed or 0, device)
    folder = out or Path(f"{choice.file_name}-atlas")
    engine = _engine(choice, workers, ray, gpus)
    said = {
        **{"k": k, "reduction": reduction, "relevance": relevance, "recipe": recipe, "steps": steps, "size": size},
        **{"dtype": dtype, "seed": seed, "batch_size": batch_size},
    }
    settings: AtlasSettings = {name: value for name, value in said.items() if value is not None}  # type: ignore[assignment]
    asked = [*(neurons or ()), *(f"{site}:{units}" for site in sites or ())] or [f"all:{units}"]
    choice = replace(choice, kinds=tuple(kinds)) if kinds else choice.naming(asked)
    find_neurons(choice, asked)  # wrong ones are told before any weights are fetched
    naming = name_with(clip, word_list, 0.99, str(choice.place.device))

    with console.stderr().status(f"Loading {escape(model)} ..."):
        undertaking = undertake(
            folder,
            NamedModel(model, checkpoint, random_weights, choice.seed, tuple(kinds) if kinds else None),
            images,
            neurons=asked,
            device=device,
            settings=settings,
        )
    undertaking = undertaking.naming(naming)
    console.stderr().print(f"Computing on {escape(choice.place.words)}.", soft_wrap=True)
    _tell(undertaking, engine)
    if dry_run:
        return
    with console.keeping(f"the pieces that were finished are in {folder}, and the same command goes on"):
        made = carry_out(undertaking, engine)
    _report(made, choice)


def _engine(choice: ModelChoice, workers: int | None, ray: str | None, gpus: float | None) -> Engine:
    """Who does the work."""
    import os

    from captum_vit.atlas.engines.here import ThisProcess
    from captum_vit.atlas.engines.processes import Processes

    if ray is not None:
        from captum_vit.atlas.engines.ray import Ray

        return Ray(ray, workers, gpus)
    if gpus is not None:
        raise CaptumViTError("--gpus is for actors of Ray; give --ray auto, or leave it out")
    if workers is None and choice.place.device.type == "cpu":
        workers = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    elif workers is None and str(choice.place.device) == "cuda":
        import torch

        workers = torch.cuda.device_count()
    return ThisProcess() if workers is None or workers == 1 else Processes(workers)


def _tell(undertaking: Undertaking, engine: Engine) -> None:
    """Print what is left to do, and how long that will take."""
    from captum_vit.atlas.estimate import estimate
    from captum_vit.progress import duration

    if not undertaking.missing:
        return
    with console.stderr().status("Estimating ..."):
        told = estimate(undertaking, engine.workers or 1)
    out = console.stderr()
    out.print(f"[bold]{told.neurons:,} neurons[/] to render, in {told.passes:,} passes of an image", soft_wrap=True)
    out.print(f"  {told.images:,} images to rank, up to {told.photos:,} photos to map", soft_wrap=True)
    shares = [("ranking", told.ranking_seconds), ("photos", told.photo_seconds), ("renders", told.render_seconds)]
    if told.names:
        shares.append((f"names of {told.names:,} neurons", told.name_seconds))
    split = ", ".join(f"{name} {duration(seconds / told.workers)}" for name, seconds in shares)
    by = "1 worker" if told.workers == 1 else f"{told.workers} workers"
    out.print(f"  about {duration(told.seconds)} with {by} ({split})", soft_wrap=True)
    size = filesize.decimal(round(told.gigabytes * 1e9))
    out.print(f"  about {size} in {escape(shown(undertaking.folder))}", soft_wrap=True)


def _report(made: Atlas, choice: ModelChoice) -> None:
    """Print what is there, and what failed."""
    for piece, error in made.failures.items():
        console.warn(f"{piece} failed: {error}")
    for ranking in made.rankings.values():
        console.warn_of_skipped(ranking.skipped)
        break
    stdout = console.stdout()
    stdout.print(f"[bold]{len(made)} neurons[/] of {escape(choice.full_name)}")
    stdout.print(f"  photos  the {made.manifest.k} best of {made.manifest.images.count} for each neuron")
    stdout.print(f"  page    [green]{escape(shown(made.folder / 'index.html'))}[/]")
    stdout.print(f"  table   [green]{escape(shown(made.folder / 'neurons.parquet'))}[/]")
