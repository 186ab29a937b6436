"""``adapt``: finds the adapter of a model, what it lists, and what stands before the model's stem."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace

from torch import nn

from captum_vit.checks import shortly
from captum_vit.errors import (
    ArgumentError,
    PluginError,
    PreprocessingWarning,
    TrainingModeWarning,
    UnsupportedModelError,
)
from captum_vit.probes import hooks
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.door import Colours, Door, SeenThrough
from captum_vit.probes.grid import Size
from captum_vit.probes.plugins import Registered, registry
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.probes.site import Site


def adapt(model: nn.Module, family: str | None = None, *, preprocessing: Preprocessing | None = None) -> AdaptedModel:
    """Make a model's feed-forward neurons look like a ConvNet's feature maps.

    Parameters
    ----------
    model
        A supported model, or a wrapper that holds one (``nn.Sequential(normalize, vit)``). Its outputs, weights and
        flags stay as they are; :meth:`AdaptedModel.restore` takes the hooks off again. What a wrapper does to the
        image is measured with a few test images, so that images are normalized once, and maps keep their place in the
        image that the wrapper gets.
    family
        The adapter to use where several would serve; found by the model's class when not given.
    preprocessing
        Input size, mean and standard deviation that ``model`` expects; read from the model when not given.

    Returns
    -------
    AdaptedModel
        A module with the same outputs, to pass to Lucent and Captum. An adapted model is returned as it is.

    Raises
    ------
    UnsupportedModelError
        No adapter serves the model, it holds several supported ones, it is compiled, it is adapted already, or it is
        no model.
    PluginError
        Adapters of several distributions claim the model, ``family`` is not installed, or the adapter describes
        the model wrongly.

    Warns
    -----
    TrainingModeWarning
        The model is in training mode.
    PreprocessingWarning
        What a wrapper does to colours cannot be told.

    Examples
    --------
    >>> import timm, torch
    >>> with adapt(timm.create_model("deit_tiny_patch16_224").eval()) as vit:
    ...     vit.patch_map(torch.zeros(1, 3, 224, 224), "blocks.5:42").shape
    torch.Size([1, 14, 14])
    """
    if isinstance(model, AdaptedModel):
        return model
    _check(model)
    if model.training:
        warnings.warn(
            f"{type(model).__name__} is in training mode: dropout and drop path make every pass different; call "
            "model.eval()",
            TrainingModeWarning,
            stacklevel=2,
        )
    supported, registered = registry().find(model, family)
    sites, stem = _describe(registered, supported)
    inner, colours = sites, None
    if supported is not model:
        door, size = Door(model, stem), Preprocessing.of(supported, stem).size
        has_values = not any(parameter.is_meta for parameter in model.parameters())
        if has_values and door.moves(size):
            sites = tuple(replace(site, grid=SeenThrough.of(site.grid, door)) for site in sites)
        if has_values and preprocessing is None:
            colours = _colours(door, supported, size)
    return AdaptedModel(
        model, supported, sites, registered.adapter.family, stem, inner=inner, colours=colours, told=preprocessing
    )


def _check(model: nn.Module) -> None:
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        named = f': adapt(captum_vit.load("{model}")) or adapt(timm.create_model("{model}", pretrained=True).eval())'
        raise UnsupportedModelError(
            f"adapt() takes a model, a torch.nn.Module, and this is a {name}"
            + (named if isinstance(model, str) else "; build the model first")
        )
    if any(_is_compiled(module) for module in model.modules()):
        raise UnsupportedModelError(
            f"{name} is compiled, and compiled code ignores hooks that come later; adapt the model first and compile "
            "the result: torch.compile(captum_vit.adapt(model))"
        )
    if hooks.is_installed(model):
        raise UnsupportedModelError(
            f"{name} is adapted already; use the adapted model that you have, or take its hooks off with "
            "captum_vit.restore(model)"
        )


def _describe(registered: Registered, model: nn.Module) -> tuple[tuple[Site, ...], nn.Module]:
    """The model's sites and the module that receives its image, as its adapter tells; a wrong tale is told apart."""
    adapter = registered.adapter
    blame = f'adapter "{adapter.family}" of distribution "{registered.distribution}"'
    sites = tuple(adapter.sites(model))
    if not sites:
        raise PluginError(f"{blame} lists no site in {type(model).__name__}; it should yield its feed-forward blocks")
    if twice := [name for name, count in Counter(site.key for site in sites).items() if count > 1]:
        raise PluginError(f"{blame} lists several sites under one name: {', '.join(twice)} (dots read as underscores)")
    try:
        return sites, model.get_submodule(adapter.stem)
    except AttributeError:
        raise PluginError(
            f'{blame} names "{adapter.stem}" as the module that receives the image, which {type(model).__name__} does '
            "not have; set stem to its module path"
        ) from None


def _colours(door: Door, supported: nn.Module, size: Size) -> Colours | None:
    """What a wrapper does to colours; a warning where that cannot be told."""
    found = door.colours(size)
    if found is None:
        warnings.warn(
            f"what {type(door.model).__name__} does to the colours of an image before {type(supported).__name__} gets "
            "it cannot be told from test images, so nothing of it is allowed for; say what it expects with "
            "adapt(model, preprocessing=...)",
            PreprocessingWarning,
            stacklevel=3,
        )
    return found


def restore(model: nn.Module) -> None:
    """Take the package's hooks off a model; for a bare copy of an adapted model, whose adapted model is not at hand."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is {shortly(model)}; give the model itself")
    hooks.remove(model)


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
