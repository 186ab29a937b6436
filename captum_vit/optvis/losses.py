"""What images are optimized for, neurons by their addresses or Lucent objectives, and the loss of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.layers import LayerOutputs
from captum_vit.probes.site import Site

Objective = Callable[[Callable[[str], Tensor]], Tensor]


@dataclass(frozen=True)
class Target:
    """What one image is optimized for.

    Attributes
    ----------
    name
        The address, or the objective's description.
    depth
        How deep in the model it lies: the number of sites before it.
    neuron
        Site and unit; None for an objective.
    objective
        A Lucent objective (a loss: the lower, the better); None for a neuron.
    """

    name: str
    depth: int
    neuron: tuple[Site, int] | None = None
    objective: Objective | None = None

    @classmethod
    def of(cls, vit: AdaptedModel, neuron: str | Objective) -> Target:
        """An address, or a Lucent objective, as a target.

        Raises
        ------
        AddressError
            The address is malformed, or the model has no such site or unit.
        """
        if not isinstance(neuron, str):
            return cls(getattr(neuron, "description", "") or repr(neuron), len(vit.sites), objective=neuron)
        site, unit = vit.address(neuron)
        return cls(f"{site.name}:{unit}", vit.sites.index(site), neuron=(site, unit))


class Losses(Protocol):
    """The losses of a batch of targets; a context manager, which leaves the model as it found it."""

    def __enter__(self) -> Losses: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, inputs: Tensor, copies: Sequence[int]) -> Tensor:
        """Losses ``(targets,)`` on ``inputs`` (sum of copies, 3, H, W), which hold the targets' copies in order."""
        ...


def losses_of(
    vit: AdaptedModel, targets: Sequence[Target], images: Callable[[], Tensor], forward: Callable[[Tensor], Any]
) -> Losses:
    """What computes the losses of the targets.

    Parameters
    ----------
    vit
        The adapted model.
    targets
        The targets.
    images
        Gives the images ``(targets, 3, H, W)`` in [0, 1], which objectives may read.
    forward
        What runs the model for neurons: ``vit`` itself, or ``vit`` compiled.
    """
    neurons = [target.neuron for target in targets if target.neuron is not None]
    if len(neurons) == len(targets):
        return NeuronLosses(vit, neurons, forward)
    return ObjectiveLosses(vit, targets, images)


class NeuronLosses:
    """Minus the activations of neurons, averaged over patches and copies, from passes that end at the deepest site."""

    def __init__(
        self, vit: AdaptedModel, neurons: Sequence[tuple[Site, int]], forward: Callable[[Tensor], Any]
    ) -> None:
        self.vit = vit
        self.sites = [site for site, _ in neurons]
        self.units = torch.tensor([unit for _, unit in neurons], device=next(vit.parameters()).device)
        self.forward = forward

    def __enter__(self) -> NeuronLosses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is hooked."""

    def __call__(self, inputs: Tensor, copies: Sequence[int]) -> Tensor:
        """See :class:`Losses`."""
        with self.vit.collect({site.name for site in self.sites}) as maps:
            self.forward(inputs)
        bounds = np.cumsum([0, *copies]).tolist()
        losses: list[Tensor] = []
        first = 0
        # Neighbours that share a site are read at once: each reading costs the backward pass an array like the map.
        while first < len(self.sites):
            last = first
            while last < len(self.sites) and self.sites[last] == self.sites[first]:
                last += 1
            patch_maps = maps[self.sites[first].name]
            if (bounds[first], bounds[last]) != (0, len(patch_maps)):
                patch_maps = patch_maps[bounds[first] : bounds[last]]
            counts = torch.tensor(copies[first:last], device=patch_maps.device)
            units = self.units[first:last].repeat_interleave(counts)
            own = patch_maps.gather(1, units.view(-1, 1, 1, 1).expand(-1, 1, *patch_maps.shape[2:]))
            activations = own.float().mean(dim=(1, 2, 3)).split(copies[first:last])
            losses += [-activation.mean() for activation in activations]
            first = last
        return torch.stack(losses)


class ObjectiveLosses:
    """The losses of Lucent objectives, and of neurons among them, each on its own images only."""

    def __init__(self, vit: AdaptedModel, targets: Sequence[Target], images: Callable[[], Tensor]) -> None:
        self.objectives = [target.objective or _activation(target) for target in targets]
        self.layers = LayerOutputs(vit, images)

    def __enter__(self) -> ObjectiveLosses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the hooks off."""
        self.layers.__exit__(kind, error, trace)

    def __call__(self, inputs: Tensor, copies: Sequence[int]) -> Tensor:
        """See :class:`Losses`."""
        self.layers.run(inputs)
        bounds = np.cumsum([0, *copies]).tolist()
        return torch.stack(
            [
                objective(self._view(index, slice(bounds[index], bounds[index + 1]))).float()
                for index, objective in enumerate(self.objectives)
            ]
        )

    def _view(self, index: int, rows: slice) -> Callable[[str], Tensor]:
        """The layers as the objective of one target sees them: its own images only."""
        return lambda layer: self.layers(layer)[slice(index, index + 1) if layer == "input" else rows]


def _activation(target: Target) -> Objective:
    assert target.neuron is not None
    site, unit = target.neuron
    return lambda layers: -layers(site.layer)[:, unit].mean()
