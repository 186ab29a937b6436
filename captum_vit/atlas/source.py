"""Which model an atlas is of, in a way that other processes and machines can build it from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from captum_vit.errors import AtlasError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.kinds import FEED_FORWARD, kind_named, kinds_of
from captum_vit.probes.selection import EVERY


@dataclass(frozen=True)
class NamedModel:
    """A model by its name, as :func:`captum_vit.load_model` takes it.

    Attributes
    ----------
    name, checkpoint, random_weights, seed
        As there.
    kinds
        Which kinds of sites it has, as its ``sites``; in an atlas those that are there or named, when not given.
    """

    name: str
    checkpoint: str | Path | None = None
    random_weights: bool = False
    seed: int = 0
    kinds: tuple[str, ...] | None = None

    def __call__(self) -> AdaptedModel:
        """The model, adapted, on the CPU.

        Raises
        ------
        ModelNameError, WeightsError, UnsupportedModelError
            As for :func:`captum_vit.load_model`.
        """
        from captum_vit.loading.build import load_model

        return load_model(
            self.name,
            checkpoint=self.checkpoint,
            random_weights=self.random_weights,
            seed=self.seed,
            sites=self.kinds or FEED_FORWARD,
        )

    @property
    def origin(self) -> Mapping[str, Any]:
        """What results record of it, which never hides that the weights are random."""
        from captum_vit.loading.names import canonical

        name = canonical(self.name)
        if self.random_weights:
            return {"name": f"{name} (random weights)", "weights": "random"}
        return {"name": name, "weights": "published" if self.checkpoint is None else Path(self.checkpoint).name}


@dataclass(frozen=True)
class MadeModel:
    """A model that a function makes.

    Attributes
    ----------
    make
        A function of a module, which other processes can import; it gives the adapted model.
    origin
        What results record of it.
    """

    make: Callable[[], AdaptedModel]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> AdaptedModel:
        """The model, adapted."""
        return self.make()


ModelSource = NamedModel | MadeModel


def with_kinds(source: ModelSource, kinds: tuple[str, ...] | None, neurons: Sequence[str] | None) -> ModelSource:
    """A source that tells the kinds of its sites.

    Parameters
    ----------
    source
        The source; one that tells them stays as it is, as does a function, which adapts its model itself.
    kinds
        Those of an atlas that is there; None without one.
    neurons
        Which are asked for. Without an atlas, their names tell the kinds.

    Raises
    ------
    AtlasError
        Neurons are of a kind that the atlas has not.
    """
    if isinstance(source, MadeModel) or source.kinds is not None:
        return source
    sites = [neuron.partition(":")[0].strip() for neuron in neurons or ()]
    named = {kind_named(site): site for site in sites if site != EVERY}
    found = kinds if kinds is not None else kinds_of(named or FEED_FORWARD)
    if others := named.keys() - set(found):
        raise AtlasError(
            f"this atlas has sites of the kind {', '.join(found)}, for which its photos are ranked; ask for "
            f"{named[others.pop()]} in another folder"
        )
    return replace(source, kinds=found)


def as_source(model: str | ModelSource | Callable[[], AdaptedModel]) -> ModelSource:
    """A model's name, or a function that makes it, as a source."""
    if isinstance(model, str):
        return NamedModel(model)
    if isinstance(model, NamedModel | MadeModel):
        return model
    return MadeModel(model, {"name": getattr(model, "__qualname__", type(model).__qualname__)})
