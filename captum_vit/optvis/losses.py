"""What images are optimized for, neurons by their addresses or Lucent objectives, and the loss of each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from captum_vit.errors import DescriptionError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.layers import LayerOutputs
from captum_vit.probes.site import Site
from captum_vit.storage.fingerprint import content_sha256

Objective = Callable[[Callable[[str], Tensor]], Tensor]


@dataclass(frozen=True)
class Target:
    """What one image is optimized for.

    Attributes
    ----------
    name
        The address, or what the objective is called.
    depth
        How deep in the model it lies: the number of sites before it.
    stream
        What its random numbers follow from, besides the seed: the address, or the checksum of all that is in the
        objective. An objective without content that could be compared has its name, and its place among those of that
        name.
    sha256
        The checksum of the objective; None for a neuron, and for an objective that has none.
    neuron
        Site and unit; None for an objective.
    objective
        A Lucent objective (a loss: the lower, the better); None for a neuron.
    relative_depth
        How deep in the model the neuron's block lies, from 0 for the first to 1 for the last; 1 for an objective.
    """

    name: str
    depth: int
    stream: str
    sha256: str | None = None
    neuron: tuple[Site, int] | None = None
    objective: Objective | None = None
    relative_depth: float = 1.0

    @classmethod
    def of(cls, vit: AdaptedModel, neuron: str | Objective) -> Target:
        """An address, or a Lucent objective, as a target.

        Raises
        ------
        AddressError
            The address is malformed, or the model has no such site or unit.
        """
        if isinstance(neuron, str) or not callable(neuron):
            site, unit = vit.address(neuron)
            address = site.address(unit)
            # Of blocks, so that it does not matter of which kinds the model was asked for sites.
            blocks = list(dict.fromkeys(each.block for each in vit.sites))
            relative_depth = blocks.index(site.block) / max(1, len(blocks) - 1)
            depth = vit.sites.index(site)
            return cls(address, depth, address, neuron=(site, unit), relative_depth=relative_depth)
        name = _name(neuron)
        try:
            sha256 = content_sha256(neuron)
        except (DescriptionError, OSError):  # OSError: a file that it holds cannot be read
            return cls(name, len(vit.sites), name, objective=neuron)
        return cls(name, len(vit.sites), sha256, sha256, objective=neuron)

    @classmethod
    def all_of(cls, vit: AdaptedModel, neurons: Sequence[str | Objective]) -> list[Target]:
        """Several targets, of which different ones differ in name and stream.

        Raises
        ------
        AddressError
            As for :meth:`of`.
        """
        targets: list[Target] = []
        streams: dict[str, list[str]] = {}  # of the targets of each name, in their order
        twins: Counter[str] = Counter()
        for neuron in neurons:
            target = cls.of(vit, neuron)
            if target.objective is not None and target.sha256 is None:
                twins[target.name] += 1
                target = replace(target, stream=f"{target.name} #{twins[target.name]}")
            known = streams.setdefault(target.name, [])
            if target.stream not in known:
                known.append(target.stream)
            if number := known.index(target.stream):
                target = replace(target, name=f"{target.name} ({number + 1})")
            targets.append(target)
        return targets


def _name(objective: Objective) -> str:
    """What an objective is called: Lucent's description of it, or the name of the function or class."""
    description = getattr(objective, "description", "")
    if isinstance(description, str) and description.strip():
        return " ".join(description.split())
    return getattr(objective, "__qualname__", "") or type(objective).__qualname__


class Losses(Protocol):
    """The losses of a batch of targets; a context manager, which leaves the model as it found it."""

    def __enter__(self) -> Losses: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, inputs: Tensor, copies: int) -> Tensor:
        """Losses ``(N,)`` on ``inputs`` (N * copies, 3, H, W), which hold the targets' copies in order."""
        ...

    def redirect(self, on: bool) -> None:
        """Let gradients pass by the activation functions of the targets' own sites, or no longer."""
        ...

    @property
    def redirected(self) -> frozenset[str]:
        """Names of the sites at which gradients were redirected."""
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


class _Redirecting:
    """Redirects the gradient of each neuron's images, at its own site only, where that has a known silencer."""

    def __init__(self, vit: AdaptedModel, neurons: Sequence[tuple[Site, int] | None]) -> None:
        own = {
            name: torch.tensor([neuron is not None and neuron[0].name == name for neuron in neurons], device=vit.device)
            for name in {neuron[0].name for neuron in neurons if neuron and neuron[0].activation is not None}
        }
        self._redirect = vit.redirect(own, own) if own else None
        if self._redirect is not None:
            self._redirect.on = False
        self._hooked = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the hooks off, if there are any."""
        self.redirect(False)

    def redirect(self, on: bool) -> None:
        """See :class:`Losses`."""
        if self._redirect is None or on == self._redirect.on:
            return
        self._redirect.on = on
        if on:
            self._hooked.enter_context(self._redirect)
        else:
            self._hooked.close()

    @property
    def redirected(self) -> frozenset[str]:
        """Names of the sites at which gradients were redirected."""
        return frozenset(self._redirect.reached if self._redirect else ())


class NeuronLosses(_Redirecting):
    """Minus the activations of neurons, averaged over patches and copies, from passes that end at the deepest site."""

    def __init__(self, vit: AdaptedModel, neurons: Sequence[tuple[Site, int]]) -> None:
        super().__init__(vit, neurons)
        self.vit = vit
        device = vit.device
        # Neighbours that share a site are read at once: each reading costs the backward pass an array like the map.
        self.groups = [
            (site, torch.tensor([unit for _, unit in group], device=device))
            for site, group in ((site, list(group)) for site, group in groupby(neurons, key=lambda neuron: neuron[0]))
        ]
        self._collect = vit.collector({site.name for site, _ in self.groups})
        self._rows: dict[int, list[Tensor]] = {}

    def __enter__(self) -> NeuronLosses:
        return self

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


class ObjectiveLosses(_Redirecting):
    """The losses of Lucent objectives, and of neurons among them, each on its own images only.

    An objective has no site of its own, so its gradient is as it is.
    """

    def __init__(self, vit: AdaptedModel, targets: Sequence[Target], images: Callable[[], Tensor]) -> None:
        super().__init__(vit, [target.neuron for target in targets])
        self.objectives = [target.objective or _activation(target) for target in targets]
        self.layers = LayerOutputs(vit, images)

    def __enter__(self) -> ObjectiveLosses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the hooks off."""
        super().__exit__(kind, error, trace)
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
