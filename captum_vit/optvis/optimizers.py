"""Optimizers as data: how the parameters of a batch of images move, each image as it would alone.

Adam and NAdam are written out here, as a render asks more of them than PyTorch's do: an image whose gradient is not
finite stays where it is, and a step reads nothing back from the device, on which PyTorch's keep their count of steps or
not as it suits the kernel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


class Optimizer(ABC):
    """What makes a :class:`Descent`."""

    @abstractmethod
    def descent(self, parameters: Tensor) -> Descent:
        """A fresh descent of parameters ``(N, ...)``, which it moves in place."""


class Descent(ABC):
    """The state of an optimizer in a render."""

    @abstractmethod
    def step(self, gradient: Tensor, stays: Tensor, factor: float) -> None:
        """Move the parameters.

        Parameters
        ----------
        gradient
            Of the same shape as the parameters, zero for images that are to stay.
        stays
            Whether an image stays where it is, ``(N, 1, ...)``.
        factor
            Of the learning rate, from the schedule.
        """


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1).

    Attributes
    ----------
    lr
        Learning rate.
    betas
        Decay of the means of the gradient and of its square.
    eps
        Added to the denominator.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def descent(self, parameters: Tensor) -> Descent:
        """See :class:`Optimizer`."""
        return _Adam(self, parameters)


@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016), with the schedule of the momentum that PyTorch has.

    Attributes
    ----------
    lr, betas, eps
        As for :class:`Adam`.
    momentum_decay
        How fast the momentum grows to its final value.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum_decay: float = 4e-3

    def descent(self, parameters: Tensor) -> Descent:
        """See :class:`Optimizer`."""
        return _NAdam(self, parameters)


@dataclass(frozen=True)
class TorchOptimizer(Optimizer):
    """Any optimizer of PyTorch's kind, by its class: ``TorchOptimizer(torch.optim.SGD, {"lr": 0.1})``.

    Attributes
    ----------
    kind
        The class.
    settings
        Its keyword arguments.
    """

    kind: type[torch.optim.Optimizer]
    settings: dict[str, Any] = field(default_factory=dict)

    def descent(self, parameters: Tensor) -> Descent:
        """See :class:`Optimizer`."""
        return _Torch(self.kind([parameters], **self.settings), parameters)

    def __hash__(self) -> int:
        return hash((self.kind, *self.settings))


class _Moments(Descent):
    """Running means of the gradient and of its square."""

    def __init__(self, settings: Adam | NAdam, parameters: Tensor) -> None:
        self.settings = settings
        self.parameters = parameters
        self.first = torch.zeros_like(parameters)
        self.second = torch.zeros_like(parameters)
        self.count = 0

    def _move(self, gradient: Tensor, stays: Tensor, direction: Callable[[], Tensor], rate: float) -> None:
        """Take in a gradient, and go along a direction that is known then, divided by the root of the mean square."""
        beta1, beta2 = self.settings.betas
        self.first.lerp_(gradient, 1 - beta1)
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # The mean square grows from zero: what it falls short by is a number, and cheaper to take from the rate.
        short = math.sqrt(1 - beta2**self.count)
        divisor = self.second.sqrt().add_(self.settings.eps * short).masked_fill_(stays, torch.inf)
        self.parameters.addcdiv_(direction(), divisor, value=-rate * short)


class _Adam(_Moments):
    @torch.no_grad()
    def step(self, gradient: Tensor, stays: Tensor, factor: float) -> None:
        self.count += 1
        rate = self.settings.lr * factor / (1 - self.settings.betas[0] ** self.count)
        self._move(gradient, stays, lambda: self.first, rate)


class _NAdam(_Moments):
    def __init__(self, settings: NAdam, parameters: Tensor) -> None:
        super().__init__(settings, parameters)
        self.decay = settings.momentum_decay
        self.product = 1.0

    @torch.no_grad()
    def step(self, gradient: Tensor, stays: Tensor, factor: float) -> None:
        self.count += 1
        now, later = (self._momentum(count) for count in (self.count, self.count + 1))
        self.product *= now
        ahead, along = later / (1 - self.product * later), (1 - now) / (1 - self.product)
        self._move(
            gradient,
            stays,
            lambda: (self.first * ahead).add_(gradient, alpha=along),
            self.settings.lr * factor,
        )

    def _momentum(self, count: int) -> float:
        momentum: float = self.settings.betas[0] * (1 - 0.5 * 0.96 ** (count * self.decay))
        return momentum


class _Torch(Descent):
    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Tensor) -> None:
        self.optimizer = optimizer
        self.parameters = parameters
        self.rates = [group["lr"] for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, gradient: Tensor, stays: Tensor, factor: float) -> None:
        before = self.parameters.clone()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.parameters.grad = gradient
        self.optimizer.step()
        self.parameters.grad = None
        self.parameters.copy_(torch.where(stays, before, self.parameters))
