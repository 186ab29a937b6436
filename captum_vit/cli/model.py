"""What the commands share: the default model and neuron, the device, and names for files."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli.console import stderr

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    import torch

    from captum_vit.probes.adapted import AdaptedModel

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A timm model, or an embedded one.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="File with the model's weights; they come from the hub when not given.")
]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Take an untrained model; the output says so.")]
RecipeName = Annotated[str, typer.Option(help="How to optimize: fourier, lucent, maco, or the paper's ghiasi2022.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of the optimization; the recipe's own when not given.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the optimization and of random weights.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps ...")]

DEFAULT_MODEL = "deit_micro"
DEFAULT_NEURON = "blocks.4:307"  # answers to lights at dusk, such as those of a launch pad


def default_neuron(model: str, vit: AdaptedModel) -> str:
    """The neuron to draw where none was named; a good one is known of the embedded model only."""
    from captum_vit.errors import AddressError

    if model == DEFAULT_MODEL:
        return DEFAULT_NEURON
    names = [site.name for site in vit.sites]
    raise AddressError(
        f"name a neuron of {model}, such as {names[len(names) * 2 // 3]}:42; "
        f"`captum-vit sites {model}` lists its {len(names)} sites, {names[0]} … {names[-1]}"
    )


def find_neurons(
    model: str, choices: Sequence[str] | None, seed: int, default: Callable[[AdaptedModel], Sequence[str]] | None = None
) -> list[str]:
    """Addresses of the chosen neurons, before any weights are fetched; those of ``default`` where none are chosen.

    Raises
    ------
    AddressError
        A choice is malformed, or the model has no such site or unit.
    """
    from captum_vit.models.build import build_without_weights
    from captum_vit.probes.adapted import adapt
    from captum_vit.probes.selection import select_neurons

    with adapt(build_without_weights(model)) as sketch:
        return select_neurons(sketch, choices or (default(sketch) if default else ()), seed)


def find_device(name: str) -> torch.device:
    """The device of that name, if this machine has it."""
    import torch

    from captum_vit.errors import CaptumViTError

    try:
        device = torch.device(name)
        torch.empty(1, device=device)  # fails where the machine, or this build of torch, has no such device
    # What torch raises depends on the device: RuntimeError, AssertionError, NotImplementedError ...
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CaptumViTError(f'no device "{name}" here ({reason}); leave --device out to compute on the CPU') from error
    return device


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Context in which torch computes with so many threads; None leaves it at its own choice.

    The embedded models are so small that threads mostly wait for one another: on a busy machine with two cores, a
    step on two threads took at least 8 times as long as on one.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def adapted(
    model: str, checkpoint: Path | None, random_weights: bool, seed: int, place: torch.device
) -> Iterator[AdaptedModel]:
    """Context with the model of that name, with its weights, adapted, on the device."""
    from captum_vit.models import available
    from captum_vit.models.build import build_model
    from captum_vit.probes.adapted import adapt

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each attempt to reach the hub
    with stderr().status(f"Loading {escape(model)} ..."):
        network = build_model(model, checkpoint, random_weights, seed)
    with adapt(network.to(place)) as vit, use_threads(1 if model in available() else None):
        yield vit


def origin_of(model: str, checkpoint: Path | None, random_weights: bool) -> dict[str, str]:
    """What results record of a model; commands that take one another's results compare it."""
    weights = "random" if random_weights else str(checkpoint or "published")
    return {"name": full_name(model, random_weights), "weights": weights}


def full_name(model: str, random_weights: bool) -> str:
    """The model's name, which never hides that the weights are random."""
    return f"{model} (random weights)" if random_weights else model


def file_name(model: str) -> str:
    """The model's name with what no file system takes left out ("hf-hub:timm/vit_tiny")."""
    return re.sub(r"[^\w.+-]+", "-", model)
