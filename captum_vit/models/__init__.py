"""The embedded models: small, trained, shipped with the package, loaded by name without a network."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from captum_vit.checks import shortly
from captum_vit.errors import CorruptedWeightsError, UnknownModelError
from captum_vit.models.bundled import default_crops, default_photos
from captum_vit.models.registry import MODELS

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CorruptedWeightsError", "UnknownModelError", "available", "default_crops", "default_photos", "load"]


def available() -> tuple[str, ...]:
    """List the names that `load` takes."""
    return tuple(MODELS)


def load(name: str) -> nn.Module:
    """Load an embedded model, trained, in eval mode, in float32 on the CPU.

    Parameters
    ----------
    name
        One of `available`.

    Returns
    -------
    torch.nn.Module
        An ordinary timm model. It carries its input size, mean and std as timm's own do, so that
        ``timm.data.resolve_model_data_config(model)`` gives them; takes RGB of shape ``(B, 3, 64, 64)``, normalized.

    Raises
    ------
    UnknownModelError
        If there is no embedded model of that name; the message lists those there are.
    CorruptedWeightsError
        If the weights file is missing, or its SHA-256 checksum is not the published one.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise UnknownModelError(
            f"no embedded model {shortly(name)}; there are: {', '.join(MODELS)}. timm.create_model(name) makes timm's"
        )
    from safetensors.torch import load as read_safetensors
    from torch.random import fork_rng

    declared = MODELS[name]
    try:
        content = declared.weights.read_bytes()
    except OSError as error:
        why = error.strerror or "unreadable"
        raise CorruptedWeightsError(f"{declared.weights} cannot be read ({why}); reinstall captum-vit") from error
    found = sha256(content).hexdigest()
    if found != declared.sha256:
        raise CorruptedWeightsError(
            f"{declared.weights} is corrupted: its SHA-256 is {found}, expected {declared.sha256}; reinstall captum-vit"
        )
    with fork_rng(devices=[]):  # the initial weights, soon replaced, must not use up the caller's random numbers
        model = declared.build()
    model.load_state_dict({key: value.float() for key, value in read_safetensors(content).items()})
    return model
