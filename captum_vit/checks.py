"""Arguments that mean nothing, refused by name before anything is computed."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captum_vit.errors import ArgumentError


def whole_number(name: str, value: Any, least: int | None = 1, error: type[ArgumentError] = ArgumentError) -> int:
    """An argument that counts something, as Python's own integer.

    Raises
    ------
    ArgumentError
        Or the ``error`` that was given: it is no whole number, or less than ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise error(f"{name} is {shortly(value)}; give a whole number" + (f", at least {least}" if least else ""))
    if least is not None and number < least:
        raise error(f"{name} is {number}; give at least {least}")
    return number


def some(name: str, values: Any, example: str, error: type[ArgumentError] = ArgumentError) -> list[Any]:
    """An argument that lists things, of which there is at least one.

    Raises
    ------
    ArgumentError
        Or the ``error`` that was given: it is no list, one text, or empty.
    """
    if isinstance(values, str | bytes | Path) or not isinstance(values, Iterable):
        raise error(f"{name} is {shortly(values)}; give a list, such as {example}")
    found = list(values)
    if not found:
        raise error(f"{name} is empty; give at least one, such as {example}")
    return found


def place_in_grid(name: str, value: Any, error: type[ArgumentError] = ArgumentError) -> tuple[int, int]:
    """An argument that names a patch, as (row, column).

    Raises
    ------
    ArgumentError
        Or the ``error`` that was given: it is no pair of whole numbers.
    """
    try:
        row, column = (operator.index(each) for each in value)
    except (TypeError, ValueError):
        raise error(f"{name} is {shortly(value)}; give (row, column) in whole numbers, such as (3, 4)") from None
    return row, column


def check_adapted(vit: Any, name: str = "vit") -> None:
    """Make sure that an argument is an adapted model.

    Raises
    ------
    ArgumentError
        It is something else: a model that was not adapted, the name of one ...
    """
    if hasattr(vit, "sites") and hasattr(vit, "preprocessing"):
        return
    if isinstance(vit, str):
        raise ArgumentError(
            f'{name} is {shortly(vit)}; give an adapted model: captum_vit.adapt(captum_vit.load("deit_micro")), or of '
            f"timm, captum_vit.adapt(timm.create_model({shortly(vit)}, pretrained=True).eval())"
        )
    raise ArgumentError(f"{name} is {shortly(vit)}; give an adapted model: captum_vit.adapt(model)")


def image_batch(name: str, images: Any, error: type[ArgumentError] = ArgumentError) -> None:
    """Make sure that an argument is images as a model expects them, ``(B, 3, H, W)`` in floating point.

    Raises
    ------
    ArgumentError
        Or the ``error`` that was given: it is a path, an image or array of another library, or a tensor of
        another shape or of integers.
    """
    how = "vit.preprocessing.normalize(pixels)"
    if isinstance(images, str | Path):
        raise error(
            f"{name} is {shortly(str(images))}, a path; read it first: pixels = "
            f"captum_vit.data.crop.eval_crop(vit)(captum_vit.data.images.open_rgb({shortly(str(images))}))[None], and "
            f"give {how}"
        )
    if not (hasattr(images, "is_floating_point") and hasattr(images, "requires_grad")):
        raise error(f"{name} is {shortly(images)}; give a tensor (B, 3, H, W) as the model expects it: {how}")
    shape = tuple(images.shape)
    if len(shape) == 3:
        raise error(f"{name} has the shape {shape}; give one or more, (B, 3, H, W), for one image {name}[None]")
    if len(shape) != 4 or not shape[0]:
        raise error(f"{name} has the shape {shape}; give one or more, (B, 3, H, W)")
    if not images.is_floating_point():
        raise error(f"{name} are {images.dtype}; give floating-point numbers: {how}, of pixels in [0, 1]")


def shortly(value: Any) -> str:
    """A value in a few words, for a message: its text if that is short, and its kind."""
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    kind = type(value).__name__
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}…"'
    shape = getattr(value, "shape", None)
    if isinstance(shape, Sequence):
        return f"{_article(kind)} of shape {tuple(shape)}"
    words = repr(value)
    return words if isinstance(value, list | tuple | dict | set) and len(words) <= 60 else _article(kind)


def _article(kind: str) -> str:
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def briefly(error: Exception) -> str:
    """The first thing that an error says, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # PyTorch's own heads a list: "Error(s) in loading state_dict for X:".
    first = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else ""
    if " " not in first:  # KeyError: 'model', UnpicklingError: 101
        first = f"{type(error).__name__}: {first}".rstrip(": ")
    return first if len(first) <= 120 else f"{first[:120]} …"
