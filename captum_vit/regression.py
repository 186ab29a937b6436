"""Ridge regression: the linear map, with an intercept, that tells one thing from another."""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(inputs: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Fit a linear map by ridge regression (Hoerl & Kennard 1970); the intercept is not penalized.

    Parameters
    ----------
    inputs
        A row for each observation, ``(N, C)``.
    targets
        What it is to be mapped to, ``(N, T)``.
    penalty
        On the squared weights, as a fraction of the inputs' mean variance.

    Returns
    -------
    weight, bias
        ``(C, T)`` and ``(T,)``: the map is ``inputs @ weight + bias``. Of the inputs' type, on their device.
    """
    # On the CPU in double precision: small, and not every accelerator has it.
    rows, wanted = inputs.cpu().double(), targets.cpu().double()
    mean, middle = rows.mean(0), wanted.mean(0)
    centred = rows - mean
    gram = centred.T @ centred
    # Inputs that do not differ at all tell nothing, and the matrix is still solved.
    size = gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    gram.diagonal().add_(penalty * size)
    weight: Tensor = torch.linalg.solve(gram, centred.T @ (wanted - middle))
    return weight.to(inputs), (middle - mean @ weight).to(inputs)
