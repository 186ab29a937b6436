"""Checksums of content: of files, of tensors, of a model's weights, and of values made of them."""

from __future__ import annotations

import dis
import hashlib
import inspect
import json
import pickle
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
    digest = hashlib.sha256()
    _take(digest, tensor)
    return digest.hexdigest()


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's state, names and bytes, in hexadecimal; the same on every device.

    Quantized weights count with their scales, sharded ones whole, and those on no device (meta) by their shapes.
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(f" {value.dtype} {tuple(value.shape)}".encode())
        _take(digest, value)
    return digest.hexdigest()


def _take(digest: Any, value: Any) -> None:
    """Take what is in a value into a digest: a tensor of any kind, what holds tensors, or what pickles."""
    if not isinstance(value, Tensor):
        if isinstance(value, Mapping):
            value = list(value.items())
        if isinstance(value, list | tuple):
            for item in value:
                _take(digest, item)
        else:
            digest.update(pickle.dumps(value))
        return
    value = value.detach()
    if hasattr(value, "full_tensor"):  # sharded over processes
        value = value.full_tensor()
    if value.is_quantized:
        _take(digest, (str(value.qscheme()), value.int_repr(), value.dequantize()))
    elif value.layout != torch.strided:
        _take(digest, value.to_dense())
    elif hasattr(value, "__tensor_flatten__"):
        names, context = value.__tensor_flatten__()
        _take(digest, (repr(context), [getattr(value, name) for name in names]))
    elif not value.is_meta:
        digest.update(value.cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)


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
        objects (by their class and attributes), and functions (by their code, their defaults, what they enclose and the
        globals that they read, of which modules and functions of other modules go by name).

    Raises
    ------
    DescriptionError
        It holds something else.
    """
    return _describe(value, ())


def _describe(value: Any, above: tuple[Any, ...]) -> Any:
    """A value inside others; one that holds itself is described by how far above it is."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | complex | range | slice | torch.dtype | torch.device) or value is Ellipsis:
        return {"literal": repr(value)}
    for distance, holder in enumerate(reversed(above)):
        if holder is value:
            return {"above": distance}

    def inside(item: Any) -> Any:
        return _describe(item, (*above, value))

    if isinstance(value, Path):
        return {"file": file_sha256(value)}
    if isinstance(value, list | tuple):
        return [inside(item) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((inside(item) for item in value), key=json.dumps)}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: inside(item) for key, item in value.items()}
        return {"items": [[inside(key), inside(item)] for key, item in value.items()]}
    if isinstance(value, Tensor):
        return {"tensor": tensor_sha256(value), "shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, np.ndarray | np.generic):
        return _described_array(np.asarray(value), inside)
    if isinstance(value, type):
        return _class(value)
    if inspect.isbuiltin(value):
        return {"name": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, partial):
        return {"partial": [inside(part) for part in (value.func, value.args, value.keywords)]}
    if inspect.ismethod(value):
        return {"method": value.__name__, "of": inside(value.__self__)}
    if inspect.isfunction(value):
        return _described_function(value, inside)
    if is_dataclass(value):
        content = {field.name: inside(getattr(value, field.name)) for field in fields(value) if field.compare}
        return {**_class(type(value)), **content}
    if isinstance(value, nn.Module):
        settings = {
            path: {name: inside(each) for name, each in vars(module).items() if name not in _OF_EVERY_MODULE}
            for path, module in value.named_modules()
        }
        return {**_class(type(value)), "state": weights_sha256(value), "words": repr(value), "settings": settings}
    if isinstance(value, threading.local):  # what a thread notes is no content
        return _class(type(value))
    state = _state(value)
    if state is not None and not inspect.ismodule(value):
        return {**_class(type(value)), **{name: inside(item) for name, item in state.items()}}
    raise DescriptionError(
        f"{value!r} has no content that could be compared; use numbers, dataclasses and functions of them"
    )


# Packages whose versions stand in every plan, or that seldom change what they do.
_TOLD_BY_VERSIONS = ("builtins", "captum_vit", "numpy", "timm", "torch", "torchvision")

# Parameters, hooks and the like, which are described as state or are no setting.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _described_array(array: NDArray[Any], inside: Callable[[Any], Any]) -> Any:
    if array.dtype.hasobject:  # its bytes are places in memory
        return {"array": inside(array.tolist()), "shape": list(array.shape)}
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"array": digest, "shape": list(array.shape), "dtype": str(array.dtype)}


def _described_function(function: FunctionType, inside: Callable[[Any], Any]) -> Any:
    try:
        enclosed = [inside(cell.cell_contents) for cell in function.__closure__ or ()]
    except ValueError as error:  # a cell that is still empty
        raise DescriptionError(f"{function!r} encloses a variable that has no value yet") from error
    uses = [enclosed, inside(function.__defaults__), inside(function.__kwdefaults__)]
    reads = {name: _described_global(function, name, inside) for name in sorted(_names(function.__code__))}
    described = {"function": function.__qualname__, "code": _code(function.__code__), "uses": uses}
    return {**described, "reads": {name: each for name, each in reads.items() if each is not None}}


def _described_global(function: FunctionType, name: str, inside: Callable[[Any], Any]) -> Any:
    """A global that a function reads; None if it is a builtin, or an attribute that happens to be called so."""
    value = function.__globals__.get(name)
    if value is None:
        return None
    if inspect.ismodule(value):
        return {"module": value.__name__}
    if inspect.isfunction(value) and value.__globals__ is not function.__globals__:
        return {"name": f"{value.__module__}.{value.__qualname__}"}
    return inside(value)


def _names(code: CodeType) -> set[str]:
    """Names of the globals that a function's instructions read, functions inside included."""
    read = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return read.union(*(_names(each) for each in code.co_consts if isinstance(each, CodeType)))


def _state(value: object) -> dict[str, Any] | None:
    """The attributes of an object; None if it has no place for any."""
    kinds = type(value).__mro__
    slots = [name for kind in kinds for name in _as_tuple(vars(kind).get("__slots__", ()))]
    held = {name: getattr(value, name) for name in slots if name[:2] != "__" and hasattr(value, name)}
    if hasattr(value, "__dict__"):
        return {**held, **vars(value)}
    return held if slots else None


def _as_tuple(slots: str | Iterable[str]) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _class(kind: type) -> dict[str, Any]:
    """A class by its name, and by what its methods do where no version number tells that."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.partition(".")[0] in _TOLD_BY_VERSIONS:
        return {"class": name}
    methods = {
        each: getattr(value, "fget", None) or getattr(value, "__func__", value) for each, value in vars(kind).items()
    }
    code = {each: _code(method.__code__) for each, method in methods.items() if inspect.isfunction(method)}
    return {"class": name, "methods": code, "bases": [_class(base) for base in kind.__bases__]}


def _code(code: CodeType) -> list[Any]:
    """What a function does: its instructions, the names that they read and the constants, functions inside included."""
    constants = [_code(each) if isinstance(each, CodeType) else _constant(each) for each in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _constant(value: Any) -> str:
    """A constant in words; the order in which a set shows its values differs from process to process."""
    return f"{{{', '.join(sorted(map(repr, value)))}}}" if isinstance(value, frozenset) else repr(value)
