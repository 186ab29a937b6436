"""Trails: what is known of where a tensor came from, and how each operation of ATen hands that on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from captum_vit.discovery.steps import GridStep, Padding, padding, resamplings, step_of

# Stands among a tensor's layers where it came through a product of two activations (attention), or through weights
# that belong to no linear layer: whatever reads it reads no hidden activation of a feed-forward block.
BREAK = -1

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "dot", "linear", "_native_multi_head_attention")
_COPIES = ("clone", "_to_copy", "_unsafe_view")
_values = count()


@dataclass(frozen=True)
class Trail:
    """Where a tensor that depends on the image came from.

    Attributes
    ----------
    layers
        Numbers of the calls of linear layers that it came from since other linear layers or attention.
    steps
        The steps from pixels to its cells.
    before, after
        Tokens that were put before and after those of the image.
    padded
        What was put around it just now.
    value
        The same number for tensors that hold the same numbers in another shape.
    """

    layers: frozenset[int] = frozenset()
    steps: tuple[GridStep, ...] = ()
    before: int = 0
    after: int = 0
    padded: Padding | None = None
    value: int = -1


def follow(
    operation: OpOverload, arguments: Sequence[Any], inputs: list[tuple[Tensor, Trail]], output: Tensor, by: str
) -> Trail | None:
    """The trail of an operation's output.

    Parameters
    ----------
    operation, arguments
        The operation, and its arguments in order.
    inputs
        Those of them that depend on the image, with their trails.
    output
        What it gave.
    by
        Path of the module in which it runs.
    """
    name = operation.overloadpacket.__name__
    if name.endswith("_like") or name.startswith("new_"):
        return None  # takes a shape and no values
    main, trail = _main(name, inputs)
    same_values = (operation.is_view or name in _COPIES) and output.numel() == main.numel()
    value = trail.value if same_values else next(_values)
    if name == "constant_pad_nd":
        return replace(trail, padded=padding(arguments), value=value)
    if (step := step_of(name, arguments, output, trail.padded, by)) is not None:
        trail = replace(trail, steps=(*trail.steps, step), before=0, after=0)
    before, after = _neighbours(name, arguments, main, trail)
    layers = _layers(name, arguments, inputs)
    return Trail(layers, trail.steps, before, after, None, value)


def _main(name: str, inputs: list[tuple[Tensor, Trail]]) -> tuple[Tensor, Trail]:
    """The input whose cells are those of the output.

    A product of two activations has rows of its first factor: attention has one for each query. Of others, the largest
    counts, as smaller ones are spread over it, and of equally large ones that which was resampled least, and has the
    fewest steps: a branch may reduce its cells and give them back.
    """
    if _is_product(name):
        return inputs[0]
    return max(inputs, key=lambda each: (each[0].numel(), -resamplings(each[1].steps), -len(each[1].steps)))


def _layers(name: str, arguments: Sequence[Any], inputs: list[tuple[Tensor, Trail]]) -> frozenset[int]:
    """The linear layers that the output came from."""
    if _is_product(name) or (name == "convolution" and not _is_depthwise(arguments)):
        return frozenset({BREAK})
    most = max(tensor.numel() for tensor, _ in inputs)
    # What is spread over space (the factors of squeeze-and-excite) changes a hidden activation and is not one.
    told = [trail.layers for tensor, trail in inputs if name == "cat" or tensor.numel() == most]
    return frozenset().union(*told)


def _is_product(name: str) -> bool:
    return name in _PRODUCTS or name.startswith(("_scaled_dot_product", "_transformer_encoder"))


def _is_depthwise(arguments: Sequence[Any]) -> bool:
    weight, groups = arguments[1], arguments[8]
    return bool(groups > 1 and weight.shape[1] == 1)


def _neighbours(name: str, arguments: Sequence[Any], main: Tensor, trail: Trail) -> tuple[int, int]:
    """Tokens before and after those of the image, along the second axis of ``(B, tokens, channels)``."""
    if name == "cat" and main.ndim == 3 and (arguments[1] if len(arguments) > 1 else 0) in (1, -2):
        lengths = [part.shape[1] for part in arguments[0]]
        place = next(i for i, part in enumerate(arguments[0]) if part is main)
        return trail.before + sum(lengths[:place]), trail.after + sum(lengths[place + 1 :])
    if name == "slice" and main.ndim == 3 and len(arguments) > 2 and arguments[1] in (1, -2):
        start, end = arguments[2] or 0, arguments[3] if len(arguments) > 3 else None
        length = main.shape[1]
        cut = 0 if end is None else length - end if end >= 0 else -end
        return max(0, trail.before - start), max(0, trail.after - max(0, cut))
    return trail.before, trail.after


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, in order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)
