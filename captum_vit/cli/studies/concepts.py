"""The command ``captum-vit study concepts``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli import console, words
from captum_vit.cli.folders import foretell_ranking
from captum_vit.cli.model import Device, RandomWeights, Seed
from captum_vit.cli.plan import PlanChoice, RecipeName, Steps
from captum_vit.cli.studies import running
from captum_vit.errors import StudyError
from captum_vit.probes.devices import AUTO, find_device
from captum_vit.storage.marks import file_name, mark_in, mark_of

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.studies.study import Study


def concepts(
    models: running.Models,
    images: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder with a folder of images for each concept; any with --clip.")
    ],
    out: running.Out,
    labels: running.Labels = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A concept to look at: a folder's name, or with --clip a word or phrase; may be repeated. All folders "
            "when not given.",
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="open_clip:MODEL/WEIGHTS|transformers:MODEL",
            help="CLIP that tells which images are of which word, instead of folders.",
        ),
    ] = None,
    rest: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of images to tell concepts from; those of the other concepts when not given."
        ),
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Units to name for each concept.")] = 5,
    reduction: Annotated[
        str,
        typer.Option(callback=words.reduction, help="What an image's activation is: mean over the patches, or max."),
    ] = words.REDUCTIONS[0],
    limit: Annotated[int, typer.Option(min=4, help="Images of each folder, at most; drawn by the seed.")] = 200,
    permutations: Annotated[
        int, typer.Option(min=1, help="How often labels are dealt out at random to tell what chance gives.")
    ] = 500,
    cards: Annotated[bool, typer.Option("--cards", help="Write a page of the units' cards for each model.")] = False,
    recipe: RecipeName = words.DEFAULT_RECIPE,
    steps: Steps = None,
    batch_size: running.BatchSize = 32,
    checkpoint: running.Checkpoints = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Which units tell the images of a concept from others, chosen on half of the images and tested on the other."""
    if clip is not None and (not concept or labels is not None):
        raise StudyError("--clip labels images by words; give the words with --concept, and no --labels")
    how = PlanChoice(recipe, steps, None).checked()

    @cache  # the same for all models
    def labelled() -> dict[str, str]:
        return running.labelled(images, labels) if clip is None else _by_words(clip, images, concept or (), device)

    def measured(vit: AdaptedModel, name: str) -> Study:
        from captum_vit import studies

        study = studies.concepts(
            vit,
            labelled(),
            name=name,
            only=concept,
            rest=rest,
            units=units,
            reduction=reduction,
            limit=limit,
            permutations=permutations,
            seed=seed,
            batch_size=batch_size,
            keep=out,
        )
        if cards:
            _write_cards(vit, study, name, list(labelled()), how, seed, out)
        return study

    running.run("concepts", running.Asked(models, out, checkpoint, random_weights, seed, device), measured)


def _by_words(clip: str, images: Path, names: Sequence[str], device: str) -> dict[str, str]:
    from captum_vit.atlas.naming.clip import load_clip
    from captum_vit.data.images import find_images
    from captum_vit.studies.wording import label_by_words

    return label_by_words(load_clip(clip, find_device(device).device), list(map(str, find_images([images]))), names)


def _write_cards(
    vit: AdaptedModel, study: Study, name: str, photos: Sequence[str], how: PlanChoice, seed: int, out: Path
) -> None:
    """Write the page of a model's units, unless it is there."""
    from captum_vit.cards.card import neuron_cards
    from captum_vit.cards.page import write_page
    from captum_vit.optvis.plan import RenderPlan
    from captum_vit.optvis.timing import foretell_renders

    units = list(dict.fromkeys(str(row["unit"]) for row in study.rows))
    mark = mark_of([units, study.settings, study.models[name]["weights"], how.recipe, how.steps])
    page = out / f"concepts-{file_name(name)}.html"
    if mark_in(page) != mark:
        plan = RenderPlan.of(vit, recipe=how.recipe, steps=how.steps, seed=seed)
        foretell_ranking(vit, photos, list({unit.rpartition(":")[0] for unit in units}))
        foretell_renders(f"{len(units)} units to render", [(vit, units, plan)])
        made = neuron_cards(vit, units, photos, model=name, plan=plan)
        write_page(made, page, mark=mark)
    console.stderr().print(f"Cards of {len(units)} units are in {page}.", soft_wrap=True, markup=False)
