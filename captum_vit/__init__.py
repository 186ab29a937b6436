"""captum-vit: the feed-forward neurons of vision transformers as feature maps, for Lucent, Captum and their kin."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_vit import attribution, card, errors, objectives, plots, recipes, transforms
    from captum_vit.adapted import AdaptedModel, adapt, restore
    from captum_vit.adapter import Adapter, hookimpl
    from captum_vit.attribution import attribute
    from captum_vit.grid import PatchGrid
    from captum_vit.models import load
    from captum_vit.optvis import render_vis
    from captum_vit.ranking import TopImages
    from captum_vit.recipe import Recipe
    from captum_vit.rendering import render
    from captum_vit.site import Site, feed_forward
    from captum_vit.top_images import top_images

__all__ = [
    "AdaptedModel",
    "Adapter",
    "PatchGrid",
    "Recipe",
    "Site",
    "TopImages",
    "adapt",
    "attribute",
    "attribution",
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
    "top_images",
    "transforms",
]

# Torch, timm and Lucent take seconds to import, so each name is imported at its first use.
_HOMES = {
    "AdaptedModel": "adapted",
    "Adapter": "adapter",
    "PatchGrid": "grid",
    "Recipe": "recipe",
    "Site": "site",
    "TopImages": "ranking",
    "adapt": "adapted",
    "attribute": "attribution",
    "feed_forward": "site",
    "hookimpl": "adapter",
    "load": "models",
    "render": "rendering",
    "render_vis": "optvis",
    "restore": "adapted",
    "top_images": "top_images",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, in which a function keeps its name when the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
