"""Which tensor of a model's output is meant, where the model gives several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from captum_vit.errors import ArgumentError


def taken(output: Any, name: str | int) -> Any:
    """The part of a model's output of that name or place.

    Parameters
    ----------
    output
        A dataclass (``transformers`` gives ``ModelOutput``), a mapping or a tuple.
    name
        ``"logits"``, say, or a number.

    Raises
    ------
    ArgumentError
        The output has no such part.
    """
    try:
        if isinstance(name, str) and not isinstance(output, Mapping):
            return getattr(output, name)
        return output[name]
    except (AttributeError, LookupError, TypeError):
        raise ArgumentError(
            f"the model's output, a {type(output).__name__}, has no {name!r}; {_advice(output)}"
        ) from None


def tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of a model's output, whatever it is made of."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | tuple | list):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from tensors(part)


def _advice(output: Any) -> str:
    if isinstance(output, Tensor):
        return "it is a tensor already: adapt the model without output="
    if isinstance(output, tuple | list):
        return f"adapt the model with output= a number from 0 to {len(output) - 1}"
    names = list(output) if isinstance(output, Mapping) else [name for name in vars(output) if name[0] != "_"]
    return f"adapt the model with output= one of {', '.join(map(repr, names))}"
