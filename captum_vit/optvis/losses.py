"""What images are optimized for, neurons by their addresses or Lucent objectives, and the loss of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Protocol

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
        return cls(site.address(unit), vit.sites.index(site), neuron=(site, unit))


class Losses(Protocol):
    """The losses of a batch of targets; a context manager, which leaves the model as it found it."""

    def __enter__(self) -> Losses: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, inputs: Tensor, copies: int) -> Tensor:
        """Losses ``(N,)`` on ``inputs`` (N * copies, 3, H, W), which hold the targets' copies in order."""
        ...


def losses_of(vit: AdaptedModel, targets: Sequence[Target], images: Callable[[], Tensor]) -> Losses:
    """What computes the losses of the targets.

    Parameters
    ----------
    vit
        The adapted model.
    targets
        The targets.
    images
        Gives the images ``(N, 3, H, W)`` in [0, 1], which objectives may read.
    """
    neurons = [target.neuron for target in targets if target.neuron is not None]
    if len(neurons) == len(targets):
        return NeuronLosses(vit, neurons)
    return ObjectiveLosses(vit, targets, images)


class NeuronLosses:
    """Minus the activations of neurons, averaged over patches and copies, from passes that end at the deepest site."""

    def __init__(self, vit: AdaptedModel, neurons: Sequence[tuple[Site, int]]) -> None:
        self.vit = vit
        device = next(vit.parameters()).device
        # Neighbours that share a site are read at once: each reading costs the backward pass an array like the map.
        self.groups = [
            (site, torch.tensor([unit for _, unit in group], device=device))
            for site, group in ((site, list(group)) for site, group in groupby(neurons, key=lambda neuron: neuron[0]))
        ]
        self._collect = vit.collector({site.name for site, _ in self.groups})
        self._rows: dict[int, list[Tensor]] = {}

    def __enter__(self) -> NeuronLosses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is hooked."""

    def __call__(self, inputs: Tensor, copies: int) -> Tensor:
        """See :class:`Losses`."""
        with self._collect() as maps:
            self.vit(inputs)
        if copies not in self._rows:
            self._rows[copies] = [units.repeat_interleave(copies)[:, None, None, None] for _, units in self.groups]
        losses, first = [], 0
        for (site, units), rows in zip(self.groups, self._rows[copies], strict=True):
            patch_maps = maps[site.name]
            if len(rows) != len(patch_maps):
                patch_maps = patch_maps[first : first + len(rows)]
            # Units last, as they lie in tokens: the gradient is then laid out as the layers before expect it.
            own = patch_maps.movedim(1, -1).gather(-1, rows.expand(-1, *patch_maps.shape[2:], -1))
            losses.append(own.unflatten(0, (len(units), copies)).mean(dim=(1, 2, 3, 4), dtype=torch.float32).neg())
            first += len(rows)
        return losses[0] if len(losses) == 1 else torch.cat(losses)


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

    def __call__(self, inputs: Tensor, copies: int) -> Tensor:
        """See :class:`Losses`."""
        self.layers.run(inputs)
        return torch.stack(
            [
                objective(self._view(index, slice(index * copies, (index + 1) * copies))).float()
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
