"""A twin of a model for long work on images: the same weights in memory, and none that asks for a gradient."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

# Layers whose operations autocast runs in half precision: their weights are cast once, and not in every pass.
_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def frozen_twin(model: M, dtype: torch.dtype | None = None) -> M:
    """Copy the modules of a model, hooks included, around the very tensors of the original.

    Gradients with respect to images then keep nothing in memory for gradients of weights, while the original's flags
    stay as they are, for whoever trains or reads it in another thread. A model that cannot be copied is returned
    itself, with a warning: the same images at more memory.

    Parameters
    ----------
    model
        The model, adapted or not.
    dtype
        Half precision to which linear layers and convolutions are cast; not cast when not given.
    """
    shared: dict[int, object] = {}
    for module in model.modules():
        loose = (value for value in vars(module).values() if isinstance(value, Tensor))
        for tensor in chain(module._parameters.values(), module._buffers.values(), loose, _kept_by_hooks(module)):
            if tensor is not None:
                shared[id(tensor)] = _without_gradient(tensor)
    if dtype is not None:
        for module in model.modules():
            if isinstance(module, _CAST):
                for parameter in module._parameters.values():
                    if parameter is not None and parameter.dtype == torch.float32:
                        shared[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    try:
        return copy.deepcopy(model, shared)
    # Whatever the user's modules hold, such as locks and open files, refuses in its own way.
    except Exception as error:
        warnings.warn(f"{type(model).__name__} cannot be copied ({error}); its weights are recorded too", stacklevel=2)
        return model


def _kept_by_hooks(module: nn.Module) -> Iterator[Tensor]:
    """What hooks that are objects keep, as those that Lucent leaves behind keep the layer's last output."""
    for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
        owner = getattr(hook, "__self__", hook)
        yield from (value for value in getattr(owner, "__dict__", {}).values() if isinstance(value, Tensor))


def _without_gradient(tensor: Tensor) -> Tensor:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor.detach(), requires_grad=False)
    return tensor.detach() if tensor.requires_grad else tensor
