"""Checksums of content: of files, of tensors, of a model's weights, and of values made of them."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_vit.errors import DescriptionError


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


def content_sha256(value: Any) -> str:
    """SHA-256 of all that is in a value, in hexadecimal; the same in every process.

    Raises
    ------
    DescriptionError
        See :func:`describe`.
    """
    return hashlib.sha256(json.dumps(describe(value), sort_keys=True).encode()).hexdigest()


def describe(value: Any) -> Any:
    """A value in words and numbers that JSON holds, by content and not by name or place in memory.

    Parameters
    ----------
    value
        Numbers, texts, containers of them, dataclasses, paths (described by their files' content), tensors, classes,
        and functions (by their code, their defaults and what they enclose; not by globals that they read).

    Raises
    ------
    DescriptionError
        It holds something else.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return {"file": file_sha256(value)}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return {"tensor": tensor_sha256(value), "shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, np.ndarray | np.generic):
        return {"array": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(), "dtype": str(value.dtype)}
    if isinstance(value, type) or inspect.isbuiltin(value):
        return {"name": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, partial):
        return {"partial": [describe(part) for part in (value.func, value.args, value.keywords)]}
    if inspect.ismethod(value):
        return {"method": value.__name__, "of": describe(value.__self__)}
    if inspect.isfunction(value):
        enclosed = [describe(cell.cell_contents) for cell in value.__closure__ or ()]
        defaults = [describe(value.__defaults__), describe(value.__kwdefaults__)]
        return {"function": value.__qualname__, "code": _code(value.__code__), "uses": [enclosed, defaults]}
    if is_dataclass(value):
        content = {field.name: describe(getattr(value, field.name)) for field in fields(value) if field.compare}
        return {"class": _class_name(value), **content}
    if isinstance(value, nn.Module):
        return {"class": _class_name(value), "state": weights_sha256(value), "settings": repr(value)}
    state = getattr(value, "__dict__", None)
    if state is not None and not inspect.ismodule(value):
        return {"class": _class_name(value), **{name: describe(item) for name, item in state.items()}}
    raise DescriptionError(
        f"{value!r} has no content that could be compared; use numbers, dataclasses and functions of them"
    )


def _class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _code(code: CodeType) -> list[Any]:
    """What a function does: its instructions, the names that they read and the constants, functions inside included."""
    constants = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]
