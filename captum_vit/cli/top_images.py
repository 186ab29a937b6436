"""The command ``captum-vit top-images``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from captum_vit.cli import completion, console, words
from captum_vit.cli.folders import Images, TopK, find_images, foretell_ranking
from captum_vit.cli.model import DEFAULT_MODEL, Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.cli.neurons import Sites, find_neurons, neurons_argument
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import RANKINGS, check_output, shown
from captum_vit.storage.marks import SUFFIX, checksum


def top_images(
    model: Model = DEFAULT_MODEL,
    neurons: Annotated[
        list[str] | None,
        neurons_argument("all when none is named; sites are ranked whole, which takes no longer"),
    ] = None,
    images: Images = None,
    k: TopK = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            callback=words.output(*RANKINGS),
            help="File to write (.safetensors); MODEL-top-images.safetensors here when not given.",
        ),
    ] = None,
    sites: Sites = None,
    by: Annotated[
        str,
        typer.Option(
            callback=words.measure,
            autocompletion=completion.measures,
            is_eager=True,  # reductions are those of what is measured
            help="What is ranked by: activation, or relevance: what a neuron contributes to the model's own output, "
            "its top logit (of an embedding its norm), or to relevance:OUTPUT, a number, top, norm or sum.",
        ),
    ] = "activation",
    reduction: Annotated[
        str | None,
        typer.Option(
            callback=words.reduction,
            help="Over the patches: the mean of activations, the sum of relevances, or the max, which also tells the "
            "patch. When not given, not the max.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that read images; 0: none but this. When not given, up to 8 for an accelerator."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Find the images that excite every unit most, or to which it is most relevant, in one pass.

    Interrupted and started again with the same arguments, it goes on where it was; FILE.partial holds what is done.
    """
    from captum_vit.models import default_crops
    from captum_vit.ranking.search import top_images as rank

    # Everything that can be wrong with the question comes before weights are fetched and images read.
    named = [*(neurons or ()), *(f"{site}:all" for site in sites or ())]
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming(named)
    files = find_images(images) if images else default_crops()
    if out is None:
        question = [choice.origin, choice.seed, named, list(map(str, files)), k, by, reduction]
        out = _default_output(f"{choice.file_name}-top-images", question)
    asked = find_neurons(choice, named, lambda sketch: ["all:all"])

    partial = out.with_name(f"{out.name}.partial")
    kept = console.keeping(f"what was ranked is in {partial}, and the same command goes on")
    with kept, choice.loaded() as vit:
        ranked = list(dict.fromkeys(address.site for address in asked))
        # A gradient costs twice a forward pass, and needs all of it.
        foretell_ranking(vit, files, ranked, passes=1 if by == words.MEASURES[0] else 3)
        result = rank(
            vit,
            files,
            k,
            sites=ranked,
            by=by,
            reduction=reduction,
            batch_size=batch_size,
            workers=workers,
            partial=partial,
            origin=choice.origin,
        )
    result.save(out)
    partial.unlink(missing_ok=True)

    console.warn_of_skipped(result.skipped)
    for site, values in result.not_finite.items():
        console.warn(f"{site}: {values} values were NaN or infinite and are not ranked")
    units = sum(len(ranking.counts) for ranking in result.units.values())
    stdout = console.stdout()
    stdout.print(f"[bold]{units} units[/] at {len(result.sites)} sites of {escape(choice.full_name)}")
    stdout.print(
        f"  images  {result.images}, the {k} best of each unit by {result.reduction} {result.by} over the patches"
    )
    stdout.print(f"  file    [green]{escape(shown(out))}[/]")


def _default_output(name: str, question: Any) -> Path:
    """A file for a ranking where none was named: not one that is there, unless it is this question's own."""
    path = Path(f"{name}{RANKINGS[0]}")
    if path.exists():
        path = Path(f"{name}-{checksum(question)[:SUFFIX]}{RANKINGS[0]}")
    check_output(path, RANKINGS)
    return path
