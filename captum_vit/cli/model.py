"""What the commands share: the options that say which model and where, and the way from them to an adapted model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from captum_vit.cli import completion, words
from captum_vit.cli.console import stderr
from captum_vit.errors import PreprocessingWarning
from captum_vit.loading.names import canonical
from captum_vit.probes.devices import AUTO, Place, find_device
from captum_vit.probes.kinds import FEED_FORWARD, kind_named
from captum_vit.storage.marks import file_name

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        callback=words.model,
        autocompletion=completion.models,
        help="A timm model, or an embedded one; of other libraries transformers:facebook/dinov2-small (or a folder), "
        "torchvision:vit_b_16, open_clip:ViT-B-32/laion2b_s34b_b79k.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="File or folder with the model's weights; the published ones are fetched when not given."),
]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Take an untrained model; the output says so.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of random weights, and of whatever else is drawn.")]
Device = Annotated[
    str,
    typer.Option(
        callback=words.device,
        autocompletion=completion.devices,
        help="Where to compute: auto, which is an accelerator if there is one, cpu, cuda, cuda:1, mps ...",
    ),
]

DEFAULT_MODEL = "deit_micro"
DEFAULT_NEURON = "blocks.3:299"  # chosen by tests/benchmarks/default_neuron.py: coats of animals


@dataclass(frozen=True)
class ModelChoice:
    """Which model, with which weights, and where to compute: what a command's options say."""

    name: str
    checkpoint: Path | None = None
    random_weights: bool = False
    seed: int = 0
    device: str = AUTO
    kinds: tuple[str, ...] = (FEED_FORWARD,)

    def naming(self, neurons: Sequence[str] | None) -> ModelChoice:
        """The choice with the kinds of sites that neurons or sites are of, as their names tell."""
        named = dict.fromkeys(kind_named(neuron.partition(":")[0].strip()) for neuron in neurons or ())
        return replace(self, kinds=tuple(named) or self.kinds)

    @cached_property
    def place(self) -> Place:
        """The device; a DeviceError if it is not there or does not compute."""
        return find_device(self.device)

    @property
    def full_name(self) -> str:
        """The model's name, one for each model, which never hides that the weights are random."""
        name = canonical(self.name)
        return f"{name} (random weights)" if self.random_weights else name

    @property
    def file_name(self) -> str:
        """The model's name with what no file system takes left out ("hf-hub:timm/vit_tiny")."""
        return file_name(canonical(self.name))

    @property
    def origin(self) -> dict[str, str]:
        """What results record of a model; commands that take one another's results compare it."""
        weights = "random" if self.random_weights else str(self.checkpoint or "published")
        return {"name": self.full_name, "weights": weights}

    @contextmanager
    def sketch(self) -> Iterator[AdaptedModel]:
        """Context with the model without weights: what is wrong with a question is told before any are fetched."""
        from captum_vit.loading.build import adapted, sketch

        _ = self.place  # one that is not there is wrong, too
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PreprocessingWarning)  # told of the model with its weights
            vit = adapted(sketch(self.name), self.kinds)
        with vit:
            yield vit

    @contextmanager
    def loaded(self) -> Iterator[AdaptedModel]:
        """Context with the model with its weights, adapted, on the device, which is told."""
        from captum_vit.loading.build import adapted, build
        from captum_vit.models import available

        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each attempt to reach the hub
        with stderr().status(f"Loading {escape(self.name)} ..."):
            loaded = build(self.name, self.checkpoint, self.random_weights, self.seed)
            loaded.model.to(self.place.device)
        stderr().print(f"Computing on {escape(self.place.words)}.", soft_wrap=True)
        with adapted(loaded, self.kinds) as vit, use_threads(1 if self.name in available() else None):
            yield vit


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
