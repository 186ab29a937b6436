"""captum-vit: the feed-forward neurons of vision transformers as feature maps, for Lucent, Captum and their kin."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captum_vit import moved

if TYPE_CHECKING:
    from captum_vit import attribution, errors, plots, testing
    from captum_vit.atlas.making import make_atlas
    from captum_vit.atlas.naming.neurons import name_neurons
    from captum_vit.atlas.reader import Atlas, open_atlas
    from captum_vit.attribution import attribute
    from captum_vit.cards import card
    from captum_vit.discovery.draft import draft
    from captum_vit.discovery.finding import discover
    from captum_vit.loading.build import load_model
    from captum_vit.models import load
    from captum_vit.optvis import objectives, recipes, transforms
    from captum_vit.optvis.lucent import render_vis
    from captum_vit.optvis.recipe import Recipe
    from captum_vit.optvis.rendering import render
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.probes.adapter import Adapter, hookimpl
    from captum_vit.probes.adapting import adapt, restore
    from captum_vit.probes.attention import Attention, Channels
    from captum_vit.probes.grid import PatchGrid
    from captum_vit.probes.preprocessing import Preprocessing
    from captum_vit.probes.site import Site, feed_forward
    from captum_vit.probes.source import LoadedModel, ModelSource
    from captum_vit.ranking.classes import top_classes
    from captum_vit.ranking.result import TopImages
    from captum_vit.ranking.search import top_images

__all__ = [
    "AdaptedModel",
    "Adapter",
    "Atlas",
    "Attention",
    "Channels",
    "LoadedModel",
    "ModelSource",
    "PatchGrid",
    "Preprocessing",
    "Recipe",
    "Site",
    "TopImages",
    "adapt",
    "attribute",
    "attribution",
    "card",
    "discover",
    "draft",
    "errors",
    "feed_forward",
    "hookimpl",
    "load",
    "load_model",
    "make_atlas",
    "name_neurons",
    "objectives",
    "open_atlas",
    "plots",
    "recipes",
    "render",
    "render_vis",
    "restore",
    "testing",
    "top_classes",
    "top_images",
    "transforms",
]

# Torch, timm and Lucent take seconds to import, so each name is imported at its first use. None of them is the name of
# a module beside this file: importing that would put the module in the function's place.
_HOMES = {
    "AdaptedModel": "probes.adapted",
    "Adapter": "probes.adapter",
    "Atlas": "atlas.reader",
    "Attention": "probes.attention",
    "Channels": "probes.attention",
    "LoadedModel": "probes.source",
    "ModelSource": "probes.source",
    "PatchGrid": "probes.grid",
    "Preprocessing": "probes.preprocessing",
    "Recipe": "optvis.recipe",
    "Site": "probes.site",
    "TopImages": "ranking.result",
    "adapt": "probes.adapting",
    "attribute": "attribution",
    "discover": "discovery.finding",
    "draft": "discovery.draft",
    "feed_forward": "probes.site",
    "hookimpl": "probes.adapter",
    "load": "models",
    "load_model": "loading.build",
    "make_atlas": "atlas.making",
    "name_neurons": "atlas.naming.neurons",
    "open_atlas": "atlas.reader",
    "render": "optvis.rendering",
    "render_vis": "optvis.lucent",
    "restore": "probes.adapting",
    "top_classes": "ranking.classes",
    "top_images": "ranking.search",
}

moved.install()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
