"""Gradients whatever mode the caller is in, and an error where none leads from a result to the image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from captum_vit.errors import RecomputationError


@contextmanager
def recording() -> Iterator[None]:
    """Context, and decorator, in which operations are recorded, also within ``no_grad`` and ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def check_recorded(result: Tensor) -> Tensor:
    """A result as it is, if a gradient leads from it to something.

    Raises
    ------
    RecomputationError
        None does: an image optimized for it would be optimized for its penalty alone.
    """
    if not result.requires_grad:
        raise RecomputationError(
            "no gradient leads from the objective to the image: it does not depend on the image, or reentrant "
            "activation checkpointing cuts it off; then switch it off"
        )
    return result
