"""Which neurons: the argument that the commands share, and the way from its words to addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_vit.cli import words
from captum_vit.cli.model import DEFAULT_MODEL, DEFAULT_NEURON, ModelChoice
from captum_vit.errors import AddressError

if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.probes.address import Address

BY_DEFAULT = f"{DEFAULT_NEURON} of {DEFAULT_MODEL} when none is named"


def neurons_argument(otherwise: str, metavar: str = "SITE:UNIT...") -> Any:
    """The argument of neurons, with what is taken when there are none."""
    return typer.Argument(
        metavar=metavar,
        help="Neurons: SITE:UNIT such as blocks.8:42, SITE:0-63, SITE:all or SITE:random:16; several. With all: for "
        f"SITE:, of every site. {otherwise[0].upper()}{otherwise[1:]}.",
        show_default=False,
    )


Neurons = Annotated[list[str] | None, neurons_argument(BY_DEFAULT)]
# The old spelling of neurons by whole sites, which goes on working.
Sites = Annotated[list[str] | None, typer.Option("--sites", metavar="SITE", hidden=True)]


def find_neurons(
    choice: ModelChoice, neurons: Sequence[str] | None, default: Callable[[AdaptedModel], Sequence[str]] | None = None
) -> list[Address]:
    """Addresses of the chosen neurons, before any weights are fetched; those of ``default`` where none are chosen.

    Raises
    ------
    AddressError
        A choice is malformed, the model has no such site or unit, or none is chosen of a model of which no good one is
        known.
    """
    from captum_vit.probes.selection import select_neurons

    with choice.sketch() as sketch:
        otherwise = default or (lambda vit: [_default_neuron(choice.name, vit)])
        return select_neurons(sketch, neurons or otherwise(sketch), choice.seed)


def and_photos(neurons: Sequence[str] | None, images: Sequence[Path] | None) -> tuple[list[str], list[Path]]:
    """Neurons and photos where photos may stand behind the neurons, as they once did, and not only in ``--images``."""
    named = list(neurons or ())
    count = next((place for place, word in enumerate(named) if place and not words.is_choice(word)), len(named))
    return named[:count], [*map(Path, named[count:]), *(images or ())]


def _default_neuron(model: str, vit: AdaptedModel) -> str:
    """The neuron to take where none was named; a good one is known of the embedded model only."""
    if model == DEFAULT_MODEL:
        return DEFAULT_NEURON
    names = [site.name for site in vit.sites]
    raise AddressError(
        f"name a neuron of {model}, such as {names[len(names) * 2 // 3]}:42; "
        f"`captum-vit sites {model}` lists its {len(names)} sites, {names[0]} … {names[-1]}"
    )
