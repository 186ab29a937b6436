"""captum-vit: the feed-forward neurons of vision transformers as feature maps, for Lucent, Captum and their kin."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_vit import card, errors, objectives, plots, recipes, transforms
    from captum_vit.adapted import AdaptedModel, adapt, restore
    from captum_vit.adapter import Adapter, hookimpl
    from captum_vit.grid import PatchGrid
    from captum_vit.models import load
    from captum_vit.optvis import render_vis
    from captum_vit.recipe import Recipe
    from captum_vit.rendering import render
    from captum_vit.site import Site, feed_forward

__all__ = [
    "AdaptedModel",
    "Adapter",
    "PatchGrid",
    "Recipe",
    "Site",
    "adapt",
    "card",
    "errors",
    "feed_forward",
    "hookimpl",
    "load",
    "objectives",
    "plots",
    "recipes",
    "render",
    "render_vis",
    "restore",
    "transforms",
]

# Torch, timm and Lucent take seconds to import, so each name is imported at its first use.
_HOMES = {
    "AdaptedModel": "adapted",
    "Adapter": "adapter",
    "PatchGrid": "grid",
    "Recipe": "recipe",
    "Site": "site",
    "adapt": "adapted",
    "feed_forward": "site",
    "hookimpl": "adapter",
    "load": "models",
    "render": "rendering",
    "render_vis": "optvis",
    "restore": "adapted",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
