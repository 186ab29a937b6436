"""Names of models, ``scheme:name``: what can be told of one before anything slow is imported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from captum_vit.errors import ModelNameError

# The scheme of names that have none.
DEFAULT_SCHEME = "timm"
# Those that come with the package; tests compare them with what its plugins offer.
SCHEMES = (DEFAULT_SCHEME, "transformers", "torchvision", "open_clip")
# What timm itself takes in front of a name: a model on the hub or in a folder.
OF_TIMM = ("hf-hub", "hf_hub", "local-dir")


def split(name: str) -> tuple[str, str]:
    """The scheme of a model's name, and the name that its library knows."""
    scheme, colon, rest = name.partition(":")
    return (scheme, rest) if colon and scheme not in OF_TIMM else (DEFAULT_SCHEME, name)


def canonical(name: str) -> str:
    """The name without the scheme that goes without saying."""
    return name.removeprefix(f"{DEFAULT_SCHEME}:")


def check_scheme(name: str, schemes: Iterable[str] = SCHEMES) -> None:
    """Make sure that a model's name is a scheme and a name, or a name alone.

    Raises
    ------
    ModelNameError
        The scheme is none of these, or has no name behind it, or a name alone is one of Hugging Face.
    """
    known = list(schemes)
    scheme, rest = split(name)
    if scheme not in known:
        close = difflib.get_close_matches(scheme, [*known, *OF_TIMM], n=1, cutoff=0.5)
        advice = f"did you mean {close[0]}:{rest}? There are" if close else "there are"
        raise ModelNameError(
            f'no scheme "{scheme}" for the model {name}; {advice} {", ".join(f"{each}:" for each in known)}, and '
            f"names alone, which are {DEFAULT_SCHEME}'s or an embedded model's"
        )
    if not rest.strip():
        raise ModelNameError(f'"{name}" names no model; write {scheme}:NAME')
    if name == rest and scheme == DEFAULT_SCHEME and "/" in name and not name.startswith(OF_TIMM):
        raise ModelNameError(
            f'no model "{name}"; one of Hugging Face is transformers:{name}, or hf-hub:{name} if it is timm\'s'
        )
