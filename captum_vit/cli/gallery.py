"""The command ``captum-vit gallery``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli import words
from captum_vit.cli.cards import (
    KeptRenders,
    Top,
    default_output,
    find_photos,
    make_cards,
    mark_of_question,
    report_many,
    warn_of,
)
from captum_vit.cli.folders import Images, TopK
from captum_vit.cli.model import DEFAULT_MODEL, Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.cli.neurons import find_neurons, neurons_argument
from captum_vit.cli.plan import Dtype, PlanChoice, RecipeName, Size, Steps
from captum_vit.errors import OutputError
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import PICTURES, check_output
from captum_vit.storage.marks import file_name

if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel

# More neurons than these make a picture that few programs open.
MOST_IN_A_PICTURE = 96


def gallery(
    model: Model = DEFAULT_MODEL,
    neurons: Annotated[
        list[str] | None,
        neurons_argument("three at random of the first site, one half-way and the last when none is named"),
    ] = None,
    images: Images = None,
    top: Top = None,
    k: TopK = 2,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            callback=words.output(*PICTURES),
            help="Picture (.png, .pdf, .svg ...) to write; MODEL-RECIPE-gallery.png here when not given.",
        ),
    ] = None,
    renders: KeptRenders = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    recipe: RecipeName = words.DEFAULT_RECIPE,
    steps: Steps = None,
    size: Size = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Show a model at a glance: neurons of early, middle and late sites, each beside its most activating photos.

    The same evidence as on cards, many neurons small in one picture.
    """
    from captum_vit.cards.gallery import draw_gallery
    from captum_vit.plots import save_figure

    # Everything that can be wrong with the question comes before weights are fetched and images optimized.
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming(neurons)
    how = PlanChoice(recipe, steps, size, dtype).checked()
    photos = find_photos(images, top)
    addresses = find_neurons(choice, neurons, _through_depth)
    mark = mark_of_question("gallery", choice, how, addresses, images, top, k)
    if out is None:
        out = default_output(f"{choice.file_name}-{file_name(recipe)}-gallery", ".png", mark)
        check_output(out, PICTURES)
    if len(addresses) > MOST_IN_A_PICTURE:
        raise OutputError(
            f"{out} would show {len(addresses)} neurons, and {MOST_IN_A_PICTURE} is the most; name fewer, or write a "
            "page of cards with `captum-vit card`"
        )

    cards = make_cards(choice, how, addresses, photos, k=k, renders=renders)
    save_figure(draw_gallery(cards), out, mark=mark)
    warn_of(cards)
    report_many(cards, "gallery", out)


def _through_depth(vit: AdaptedModel) -> list[str]:
    """A choice of neurons from an early, a middle and a late site."""
    sites = vit.sites
    chosen = dict.fromkeys(site.name for site in (sites[0], sites[len(sites) // 2], sites[-1]))
    return [f"{name}:random:3" for name in chosen]
