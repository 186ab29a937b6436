"""A model's own embedding of whole images: one vector each, taken where the model itself pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from captum_vit.probes.adapted import AdaptedModel

POOLED = "pooled features"

# Parts of the outputs of transformers' models, the most like an embedding first.
_PARTS = ("image_embeds", "pooler_output", "last_hidden_state", "logits")


@torch.no_grad()
def embed(vit: AdaptedModel, pixels: Tensor) -> tuple[Tensor, str] | None:
    """The embeddings of images by the model itself, and what they are.

    Of a model with timm's ``forward_features`` and ``forward_head``, what its classifier is given. Of others, of what
    the model gives (or of the part that :attr:`AdaptedModel.takes` names), ``image_embeds``, ``pooler_output``,
    ``last_hidden_state`` or ``logits``, the first that is there; or the output itself. Tokens ``(B, N, C)`` and maps
    ``(B, C, H, W)`` are averaged.

    Parameters
    ----------
    vit
        The adapted model.
    pixels
        Images of the model's input size with pixels in [0, 1], ``(B, 3, H, W)``.

    Returns
    -------
    tuple of Tensor and str, or None
        Vectors of unit length, ``(B, D)``, single precision on the CPU, and what they are, in words. None where the
        model gives nothing that is one vector an image.
    """
    found = pooled(vit, vit.preprocessing.normalize(pixels.to(vit.device, vit.dtype)))
    if found is None or found[0].shape[1] < 2:  # one number is no direction
        return None
    return functional.normalize(found[0].float(), dim=1).cpu(), found[1]


def pooled(vit: AdaptedModel, images: Tensor) -> tuple[Tensor, str] | None:
    """What :func:`embed` embeds images by, as the model gives it.

    Parameters
    ----------
    vit
        The adapted model.
    images
        As the model expects them, ``(B, 3, H, W)``.

    Returns
    -------
    tuple of Tensor and str, or None
        Vectors ``(B, D)`` on the model's device, and what they are, in words; None where there is none for an image.
    """
    found = _where_timm_pools(vit.model, images)
    vectors, what = (found, POOLED) if found is not None else _of_output(vit(images), named=vit.takes is None)
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point() or len(vectors) != len(images):
        return None
    if vectors.ndim == 3:
        vectors, what = vectors.mean(1), f"mean of {what}"
    elif vectors.ndim == 4:
        vectors, what = vectors.mean((2, 3)), what if vectors.shape[2:] == (1, 1) else f"mean of {what}"
    return (vectors, what) if vectors.ndim == 2 else None


def at_input_size(vit: AdaptedModel, pixels: Tensor) -> Tensor:
    """Images with pixels in [0, 1], ``(B, 3, H, W)``, at the model's input size; resized if they are of another."""
    if tuple(pixels.shape[2:]) == tuple(vit.preprocessing.size):
        return pixels
    return functional.interpolate(pixels, vit.preprocessing.size, mode="bilinear", antialias=True).clamp(0, 1)


def _where_timm_pools(model: Any, images: Tensor) -> Any:
    """What timm's models give to their classifier; None if the model has no such place."""
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        return None
    try:
        return model.forward_head(model.forward_features(images), pre_logits=True)
    except TypeError:  # a head that cannot be left out
        return None


def _of_output(output: Any, *, named: bool) -> tuple[Any, str]:
    """The part of a model's output that is most like an embedding, and its name."""
    if isinstance(output, Tensor) or not named:
        return output, "the model's output"
    if isinstance(output, tuple | list) and not isinstance(output, Mapping):
        return (output[0] if output else None), "the model's output"
    for name in _PARTS:
        part = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(part, Tensor):
            return part, name
    return None, ""
