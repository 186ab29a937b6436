"""Random streams: a sequence of random numbers for each neuron, whatever else draws in the same process."""

from __future__ import annotations

import hashlib
import random
from types import TracebackType
from typing import Any

import numpy as np
import torch


class RandomStream:
    """Inside its ``with`` block, the global generators of PyTorch, NumPy and Python go on where this stream left off.

    Lucent's transforms draw from NumPy's global generator, torchvision's from PyTorch's, others from Python's. Run
    inside a neuron's own stream, they give the same numbers whichever other neurons are rendered beside it; outside,
    the generators are as if nothing had been drawn.

    Parameters
    ----------
    seed, key
        Streams with the same seed and key are the same, all others independent.
    device
        Device whose generator belongs to the stream besides the CPU's.
    """

    def __init__(self, seed: int, key: str, device: torch.device) -> None:
        self._accelerator = None if device.type == "cpu" else getattr(torch, device.type)
        digest = int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:4], "big")
        outside = self._states()
        torch.manual_seed(digest)
        np.random.seed(digest)
        random.seed(digest)
        self._inside = self._states()
        self._restore(outside)
        self._outside: tuple[Any, ...] | None = None

    def __enter__(self) -> RandomStream:
        self._outside = self._states()
        self._restore(self._inside)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = self._states()
        assert self._outside is not None
        self._restore(self._outside)

    def _states(self) -> tuple[Any, ...]:
        accelerator = self._accelerator.get_rng_state() if self._accelerator else None
        return torch.get_rng_state(), np.random.get_state(), random.getstate(), accelerator

    def _restore(self, states: tuple[Any, ...]) -> None:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if self._accelerator:
            self._accelerator.set_rng_state(states[3])
