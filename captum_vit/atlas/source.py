"""Which model an atlas is of, in a way that other processes and machines can build it from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captum_vit.probes.adapted import AdaptedModel


@dataclass(frozen=True)
class NamedModel:
    """A model by its name, as :func:`captum_vit.load_model` takes it.

    Attributes
    ----------
    name, checkpoint, random_weights, seed
        As there.
    """

    name: str
    checkpoint: str | Path | None = None
    random_weights: bool = False
    seed: int = 0

    def __call__(self) -> AdaptedModel:
        """The model, adapted, on the CPU.

        Raises
        ------
        ModelNameError, WeightsError, UnsupportedModelError
            As for :func:`captum_vit.load_model`.
        """
        from captum_vit.loading.build import load_model

        return load_model(self.name, checkpoint=self.checkpoint, random_weights=self.random_weights, seed=self.seed)

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


def as_source(model: str | ModelSource | Callable[[], AdaptedModel]) -> ModelSource:
    """A model's name, or a function that makes it, as a source."""
    if isinstance(model, str):
        return NamedModel(model)
    if isinstance(model, NamedModel | MadeModel):
        return model
    return MadeModel(model, {"name": getattr(model, "__qualname__", type(model).__qualname__)})
