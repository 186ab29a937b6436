"""Models and passes on the meta device, where only shapes matter: what leaves them as they are is skipped.

On that device torch works most functions out in Python, one element-wise function as slowly as a block of a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Of one tensor, and of several that are broadcast.
UNARY = {
    *("batch_norm", "clamp", "dropout", "exp", "gelu", "group_norm", "hardsigmoid", "hardswish", "hardtanh"),
    *("layer_norm", "leaky_relu", "relu", "rms_norm", "sigmoid", "silu", "softmax", "tanh"),
}
BINARY = {"add", "div", "mul", "sub", "__add__", "__mul__", "__sub__", "__truediv__"}
FILLING = {
    *("bernoulli_", "clamp_", "constant_", "copy_", "erfinv_", "fill_", "kaiming_normal_", "kaiming_uniform_"),
    *("normal_", "ones_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zero_", "zeros_"),
    *("add_", "div_", "mul_", "sub_", "__setitem__"),
}


class ShapesOnly(TorchFunctionMode):
    """Context in which tensors on the meta device get their shapes and nothing else."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if isinstance(tensor, Tensor) and tensor.is_meta:
            name = func.__name__
            if name in FILLING:
                return tensor
            if name in UNARY or (name in BINARY and covers(tensor, args[1])):
                return torch.empty_like(tensor)
            if name == "linear":
                units, read = (kwargs["weight"] if "weight" in kwargs else args[1]).shape
                assert tensor.shape[-1] == read
                return tensor.new_empty((*tensor.shape[:-1], units))
            if name == "lstm":
                states, width = args[1][0].shape[0] // args[4], args[1][0].shape[-1]
                return tensor.new_empty((*tensor.shape[:-1], states * width)), None, None
            if name == "scaled_dot_product_attention":
                return tensor.new_empty((*tensor.shape[:-1], args[2].shape[-1]))
        return func(*args, **kwargs)


def covers(tensor: Tensor, other: object) -> bool:
    """Whether a tensor keeps its shape when another thing is broadcast to it."""
    if not isinstance(other, Tensor):
        return True
    pairs = zip(reversed(tensor.shape), reversed(other.shape), strict=False)
    return other.ndim <= tensor.ndim and all(theirs in (1, ours) for ours, theirs in pairs)
