"""Counting what a block of code asks of a device: operations that are no views, and reads by the host."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal")


class Operations(TorchDispatchMode):
    """Counts dispatched operations while it is active.

    Attributes
    ----------
    kernels
        Operations that compute something, by name: all but views.
    reads
        Operations whose result the host waits for, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in READS or (name == "_to_copy" and _to_host(args, kwargs or {})):
            self.reads[name] += 1
        if not (function.is_view or name in ("_unsafe_view", "detach", "lift_fresh")):
            self.kernels[name] += 1
        return function(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        """Number of operations that are no views."""
        return sum(self.kernels.values())


def _to_host(args: Any, kwargs: Any) -> bool:
    device = kwargs.get("device")
    return device is not None and torch.device(device).type == "cpu" and args[0].device.type != "cpu"
