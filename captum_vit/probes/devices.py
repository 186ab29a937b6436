"""Where to compute: devices by their words, the accelerator that is there, and a warning where it stands idle."""

from __future__ import annotations

import ctypes
import re
import sys
import warnings
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from captum_vit.errors import DeviceError, IdleAcceleratorWarning

# Torch takes seconds to import, and a wrong word should not wait for it.
if TYPE_CHECKING:
    import torch
    from torch import nn

AUTO = "auto"

_WORD = re.compile(r"(?P<kind>[a-z]+)(:\d{1,3})?")
# Torch's own; distributions in this group of entry points bring others.
_KINDS = frozenset({"cpu", "cuda", "hpu", "ipu", "maia", "mps", "mtia", "privateuseone", "vulkan", "xla", "xpu"})
_KINDS_OF_OTHERS = "torch.backends"
# What the drivers of NVIDIA and AMD bring: files of devices, and libraries of which one can be loaded.
_NODES = ("/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/kfd", "/dev/dxg")
_LIBRARIES = ("libcuda.so.1", "libamdhip64.so", "nvcuda.dll", "amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll")


class Place(NamedTuple):
    """A device that computes, and what to call it."""

    device: torch.device
    words: str


def check_device(word: str) -> str:
    """A device's word as it is, unless it can be told without torch that there is no such device here.

    Raises
    ------
    DeviceError
        The word names no kind of device, or one that this system has no driver for.
    """
    if word == AUTO:
        return word
    match = _WORD.fullmatch(word)
    kind = match["kind"] if match else ""
    if kind not in _KINDS and not (kind and entry_points(group=_KINDS_OF_OTHERS)):
        raise _no_device(word, "the word names no kind of device, such as cpu, cuda, cuda:1, mps or xpu")
    if kind == "cuda" and not has_driver():
        raise _no_device(word, "no driver of NVIDIA or AMD is installed")
    if kind == "mps" and sys.platform != "darwin":
        raise _no_device(word, "it is Apple's")
    return word


def find_device(word: str = AUTO) -> Place:
    """The device of that name, on which a first sum has been computed; ``"auto"`` is the best that computes.

    Raises
    ------
    DeviceError
        This machine, or this build of torch, has no such device, or it does not compute.
    """
    import torch

    cpu = Place(torch.device("cpu"), "the CPU")
    if check_device(word) != AUTO:
        try:
            return _try(word)
        # What torch raises depends on the device: RuntimeError, AssertionError, NotImplementedError ...
        except Exception as error:
            raise _no_device(word, _brief(error)) from error
    found = accelerator()
    if found is None:
        return cpu
    try:
        return _try(found)
    except Exception as error:
        return cpu._replace(words=f"the CPU, as {found} fails ({_brief(error)})")


def accelerator() -> str | None:
    """The accelerator that torch sees, such as ``"cuda"``; None if there is none. Nothing is computed on it."""
    import torch

    if hasattr(torch, "accelerator"):  # since torch 2.6
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found.type if found else None
    there = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": getattr(torch, "xpu", None)}
    return next((kind for kind, module in there.items() if module and module.is_available()), None)


def warn_if_idle(vit: nn.Module) -> None:
    """Warn, once in a process, that a model about to work long is on the CPU while an accelerator is there.

    Call it from a public function: the warning points at that function's caller.

    Warns
    -----
    IdleAcceleratorWarning
        It is.
    """
    parameter = next(vit.parameters(), None)
    if parameter is not None and parameter.device.type == "cpu" and (found := accelerator()):
        _warn_of_idle(found)


@cache
def _warn_of_idle(kind: str) -> None:
    warnings.warn(
        f'the model is on the CPU, and this machine has a device "{kind}", which computes faster; move the model there '
        f'first: vit.to("{kind}")',
        IdleAcceleratorWarning,
        stacklevel=4,  # this function, warn_if_idle, the public function, its caller
    )


def _try(word: str) -> Place:
    """Compute a sum on a device; gives the device with its number."""
    import torch

    ones = torch.ones(2, device=word)
    float(ones.sum())  # fails where there is no such device, no memory on it, or no code for it in this build of torch
    device = ones.device
    if device.type == "cpu":
        return Place(device, "the CPU")
    name = getattr(getattr(torch, device.type, None), "get_device_name", None)
    return Place(device, f"{device} ({name(device)})" if name else str(device))


def has_driver() -> bool:
    """Whether a driver of NVIDIA or AMD is installed, told without torch."""
    return any(Path(node).exists() for node in _NODES) or any(map(_loads, _LIBRARIES))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _no_device(word: str, reason: str) -> DeviceError:
    return DeviceError(f'no device "{word}" here ({reason}); "{AUTO}" takes the best there is')


def _brief(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


def input_of(model: nn.Module, stem: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and number format of the images that a model takes: those of the weights that see them first.

    Weights that are kept elsewhere between passes (offloading) say so by the hook that brings them, and whole numbers
    (quantized weights) take floating-point images.
    """
    import torch

    for module in (stem, model):
        for owner in module.modules():
            for tensor in (*owner.parameters(recurse=False), *owner.buffers(recurse=False)):
                if not tensor.is_floating_point() or tensor.is_quantized:
                    continue
                device = getattr(getattr(owner, "_hf_hook", None), "execution_device", None)
                return torch.device(device) if tensor.is_meta and device is not None else tensor.device, tensor.dtype
    return torch.device("cpu"), torch.get_default_dtype()
