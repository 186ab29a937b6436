"""The probe: an identity on the forward path through which neurons pass as a ConvNet's feature map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_backward_hooks,
    _global_backward_pre_hooks,
    _global_forward_hooks,
    _global_forward_pre_hooks,
)


class Probe(nn.Module):
    """Identity on the forward path at a site: a hook or a layer attribution here sees, or replaces, neurons as maps.

    The probe of the patch tokens passes ``(B, units, rows, columns)``; that of the prefix tokens
    ``(B, units, 1, prefix_tokens)``. The model goes on computing with whatever the probe returns.
    """

    def forward(self, neurons: Tensor) -> Tensor:
        """Return ``neurons`` as they are."""
        return neurons

    @property
    def is_watched(self) -> bool:
        """Whether anything can tell that it runs: a hook on it or on all modules, or a forward of its own."""
        return (
            type(self) is not Probe
            or "forward" in self.__dict__
            or bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks)
            or bool(_global_forward_hooks or _global_forward_pre_hooks)
            or bool(_global_backward_hooks or _global_backward_pre_hooks)
        )


def is_watched(module: nn.Module) -> bool:
    """Whether anything can tell that a probe, or what was put in its place, runs."""
    return not isinstance(module, Probe) or module.is_watched


def shown(probe: nn.Module, neurons: Tensor) -> Tensor:
    """What a probe returns for neurons, and gradients on the way back, laid out in memory as a ConvNet's are."""
    neurons = probe(_Contiguous.apply(neurons))
    laid_out: Tensor = _Contiguous.apply(neurons)
    return laid_out


class _Contiguous(torch.autograd.Function):
    """The same values in row-major order, and so their gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Rows, then columns, last."""
        return values.view_as(values) if values.is_contiguous() else values.contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """See :meth:`forward`."""
        return gradient.contiguous()
