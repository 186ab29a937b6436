"""What a shell completes, told at once: neither torch nor the libraries of models are imported for it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from captum_vit.cli import words
from captum_vit.loading.names import DEFAULT_SCHEME, SCHEMES
from captum_vit.probes.devices import AUTO

# How timm registers a model, whose name is that of the function below.
_REGISTERED = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)


def models(incomplete: str) -> list[str]:
    """Embedded models, timm's, and schemes of other libraries."""
    embedded = [file.stem for file in Path(__file__).parents[1].glob("models/*.safetensors")]
    schemes = [f"{scheme}:" for scheme in SCHEMES if scheme != DEFAULT_SCHEME]
    return _those((*embedded, *schemes, *_timms()), incomplete)


def recipes(incomplete: str) -> list[str]:
    """The package's recipes."""
    return _those(words.RECIPES, incomplete)


def dtypes(incomplete: str) -> list[str]:
    """Number formats."""
    return _those(words.DTYPES, incomplete)


def devices(incomplete: str) -> list[str]:
    """Kinds of devices that are common."""
    return _those((AUTO, "cpu", "cuda", "mps"), incomplete)


def measures(incomplete: str) -> list[str]:
    """What rankings are by."""
    return _those(words.MEASURES, incomplete)


def _those(names: tuple[str, ...], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _timms() -> list[str]:
    """Names of timm's models as its sources have them."""
    spec = find_spec(DEFAULT_SCHEME)
    folders = [Path(place) for place in (spec.submodule_search_locations or ()) if spec] if spec else []
    sources = [source.read_text("utf-8") for folder in folders for source in folder.glob("models/*.py")]
    return [name for source in sources for name in _REGISTERED.findall(source)]
