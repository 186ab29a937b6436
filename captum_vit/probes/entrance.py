"""What an adapted model does with an image at its door, and so what image it wants there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from captum_vit.probes.adapter import Adapter
from captum_vit.probes.door import Colours, Fit
from captum_vit.probes.grid import Size
from captum_vit.probes.preprocessing import Preprocessing


@dataclass(frozen=True)
class Entrance:
    """How images come in.

    Attributes
    ----------
    adapter
        Of the model, which may know its preprocessing.
    colours
        What a wrapper does to them.
    told
        The preprocessing as the user told it, which goes before what is found.
    fit
        Where images of any size are resized; None: they go in as they are.
    """

    adapter: Adapter
    colours: Colours | None = None
    told: Preprocessing | None = None
    fit: Fit | None = None

    def preprocessing(self, model: nn.Module, stem: nn.Module) -> Preprocessing:
        """What images should be for a supported model with that stem, at this door."""
        wanted = self.told
        if wanted is None:
            wanted = preprocessing_of(self.adapter, model, stem)
            if self.colours is not None:
                wanted = wanted.behind(self.colours)
        return wanted if self.fit is None else replace(wanted, size=self.fit.size, any_size=True)

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A model's arguments, images resized where that was asked for."""
        if self.fit is None:
            return args, kwargs
        for place, value in enumerate(args):
            if _is_image(value):
                return (*args[:place], self.fit.resize(value), *args[place + 1 :]), kwargs
        for name, value in kwargs.items():
            if _is_image(value):
                return args, {**kwargs, name: self.fit.resize(value)}
        return args, kwargs

    def refuses(self, size: Size, model: nn.Module, stem: nn.Module) -> Size | None:
        """The size that the model wants in the place of another; None if it may take that one."""
        wanted = self.preprocessing(model, stem)
        return None if wanted.any_size or wanted.size == size else wanted.size


def preprocessing_of(adapter: Adapter, model: nn.Module, stem: nn.Module) -> Preprocessing:
    """What a model expects: as its adapter knows, or else as timm records it with the model."""
    return adapter.preprocessing(model) or Preprocessing.of(model, stem)


def _is_image(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()
