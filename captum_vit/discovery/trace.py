"""One traced forward pass: which linear layers ran on what, and where the image entered."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from captum_vit.discovery import places
from captum_vit.discovery.trail import Trail, follow, tensors
from captum_vit.probes.grid import Size

BATCH = 3  # images in a pass; a number that few axes have by chance


@dataclass(frozen=True)
class Call:
    """One call of a linear layer or 1×1 convolution on something that depends on the image.

    Attributes
    ----------
    path
        The layer's module path.
    trail
        Where its input came from.
    shape
        Its input's shape.
    width, gives
        Channels that it reads, and that it gives.
    channels_first
        Whether channels are the second axis, as a convolution has them.
    places
        Places of its input, with one channel; None where they could not be followed.
    """

    path: str
    trail: Trail
    shape: tuple[int, ...]
    width: int
    gives: int
    channels_first: bool
    places: Tensor | None = field(repr=False, compare=False, default=None)

    @property
    def cells(self) -> int:
        """Number of places of an image that it ran on."""
        return torch.Size(self.shape).numel() // (self.width * BATCH)


@dataclass
class Trace:
    """What a pass showed.

    Attributes
    ----------
    image_size
        (height, width) of the images, in pixels.
    calls
        The calls of linear layers, in order; layers in trails are numbers in this list.
    entered
        Paths of the modules that the image entered as it came, outermost first.
    """

    image_size: Size
    calls: list[Call] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)


def twin(model: nn.Module, device: str | None) -> nn.Module:
    """A copy of a model in eval mode, to put hooks on; on its own device it shares the weights.

    Parameters
    ----------
    device
        ``"meta"``, where weights have no values; None for the model's own.
    """
    kept: dict[int, object] = {}
    for module in model.modules():
        loose = (value for value in vars(module).values() if isinstance(value, Tensor))
        for tensor in chain(module._parameters.values(), module._buffers.values(), loose):
            if tensor is not None:
                moved = tensor.detach() if device is None else tensor.detach().to(device)
                is_parameter = isinstance(tensor, nn.Parameter)
                kept[id(tensor)] = nn.Parameter(moved, requires_grad=False) if is_parameter else moved
    return copy.deepcopy(model, kept).eval()


@torch.no_grad()
def trace(model: nn.Module, image_size: Size, follow_places: bool = True) -> Trace:
    """Run a :func:`twin` on empty images once and note what its linear layers read, and from which pixels."""
    sample = next(chain(model.parameters(), model.buffers()), torch.empty(0))
    dtype = sample.dtype if sample.dtype.is_floating_point else None
    images = torch.zeros(BATCH, 3, *image_size, device=sample.device, dtype=dtype)
    noted = Trace(image_size)
    mode = _Follow()
    mode.trails[images] = Trail()
    if follow_places:
        mode.places[images] = places.of_image(images)
    handles = []
    for path, module in model.named_modules():
        watcher = _Watcher(path, mode, noted, images)
        handles += [
            module.register_forward_pre_hook(watcher.enter, with_kwargs=True),
            module.register_forward_hook(watcher.leave, always_call=True),
        ]
    try:
        with mode:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return noted


class _Follow(TorchDispatchMode):
    """Leads trails through every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trails: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.places: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.inside: list[tuple[str, bool]] = []  # modules that run, and whether they are linear layers

    def __torch_dispatch__(
        self, operation: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and give its outputs their trails."""
        given = kwargs or {}
        inputs = [(each, trail) for each in tensors([*args, *given.values()]) if (trail := self.trails.get(each))]
        results = operation(*args, **given)
        if inputs:
            by, in_layer = self.inside[-1] if self.inside else ("", False)
            outputs = list(tensors(results))
            if not in_layer:  # whose places are told when it is left
                known = {id(each): self.places.get(each) for each, _ in inputs}
                for result, found in zip(outputs, places.after(operation, args, known, outputs), strict=True):
                    if found is not None:
                        self.places[result] = found
            for result in outputs:
                if (trail := follow(operation, args, inputs, result, by)) is not None:
                    self.trails[result] = trail
        return results


@dataclass(frozen=True)
class _Watcher:
    """The hooks of one module."""

    path: str
    mode: _Follow
    noted: Trace
    images: Tensor

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which module runs, and whether the image is what it gets."""
        self.mode.inside.append((self.path, _is_linear(module)))
        first = next(tensors([*args, *kwargs.values()]), None)
        if first is not None and first.shape == self.images.shape:
            trail = self.mode.trails.get(first)
            if trail is not None and not trail.steps and not trail.layers:
                self.noted.entered.append(self.path)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Give what a linear layer gave a trail that begins with it."""
        self.mode.inside.pop()
        if not _is_linear(module) or not (args and isinstance(args[0], Tensor) and isinstance(output, Tensor)):
            return
        trail, trails = self.mode.trails.get(args[0]), self.mode.trails
        if trail is None or args[0].ndim < 2:
            return
        first = not isinstance(module, nn.Linear) and hasattr(module, "kernel_size")
        axis = 1 if first else -1
        shape = tuple(args[0].shape)
        known = self.mode.places.get(args[0])
        narrow = None if known is None else known.narrow(axis, 0, 1).clone()
        self.noted.calls.append(Call(self.path, trail, shape, shape[axis], output.shape[axis], first, narrow))
        if known is not None and (given := places.after_layer(known, axis, output)) is not None:
            self.mode.places[output] = given
        trails[output] = replace(trails[output], layers=frozenset({len(self.noted.calls) - 1}), steps=trail.steps)


def _is_linear(module: nn.Module) -> bool:
    """Whether it mixes the channels of each cell and nothing else."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return {*module.kernel_size, *module.stride} == {1} and module.groups == 1
    weight = getattr(module, "weight", None)
    is_matrix = isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)
    return isinstance(module, nn.Linear) or (is_matrix and not any(module.children()))
