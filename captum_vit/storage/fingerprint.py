"""Checksums of content: of files, of tensors and of a model's weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes in row-major order, in hexadecimal; the same on every device."""
    return hashlib.sha256(_bytes(tensor)).hexdigest()


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's state, names and bytes, in hexadecimal; the same on every device."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data
