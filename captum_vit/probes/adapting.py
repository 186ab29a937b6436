"""``adapt``: finds the adapter of a model, what it lists, and what stands before the model's stem."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from captum_vit.probes.adapter import Adapter
from captum_vit.probes.door import Colours, Door, Fit, SeenThrough
from captum_vit.probes.entrance import Entrance, preprocessing_of
from captum_vit.probes.grid import Size
from captum_vit.probes.kinds import FEED_FORWARD, kinds_of
from captum_vit.probes.plugins import Registered, registry
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.probes.redirect import activation_of
from captum_vit.probes.siblings import sites_of
from captum_vit.probes.site import Site


def adapt(
    model: nn.Module,
    family: str | None = None,
    *,
    adapter: Adapter | None = None,
    preprocessing: Preprocessing | object | None = None,
    any_size: bool = False,
    output: str | int | None = None,
    sites: str | Iterable[str] = FEED_FORWARD,
) -> AdaptedModel:
    """Make a model's feed-forward neurons, or channels of its attention, look like a ConvNet's feature maps.

    Parameters
    ----------
    model
        A supported model, or a wrapper that holds one (``nn.Sequential(normalize, vit)``). Its outputs, weights and
        flags stay as they are; :meth:`AdaptedModel.restore` takes the hooks off again. What a wrapper does to the
        image is measured with a few test images, so that images are normalized once, and maps keep their place in the
        image that the wrapper gets.
    family
        The adapter to use where several would serve; found by the model's class when not given.
    adapter
        An adapter that is not installed, such as one that you write in a notebook, in the place of those that are.
    preprocessing
        Input size, mean and standard deviation that ``model`` expects: a :class:`Preprocessing`, or what its library
        calls so (an image processor of transformers, ``weights.transforms()`` of torchvision, open_clip's transform).
        Read from the model when not given.
    any_size
        Whether images of any size are resized to the model's own at its door. Maps then keep their place in the image
        that is passed, and Lucent's ``render_vis`` works with all its defaults.
    output
        Which tensor of the model's output the adapted model gives, by name or number: ``"logits"`` of a Hugging Face
        classifier. The output as it is when not given.
    sites
        Which kind of sites, or which kinds: ``"feed_forward"``, the hidden activations of feed-forward blocks
        (``blocks.5``); ``"attention"``, queries, keys and values as their layer gives them (``blocks.5.query``,
        ``blocks.5.key``, ``blocks.5.value``); ``"output"``, what feed-forward blocks make of their hidden activations
        (``blocks.5.output``); ``"all"``.

    Returns
    -------
    AdaptedModel
        A module with the same outputs, to pass to Lucent and Captum. An adapted model is returned as it is, if it has
        sites of the kinds that are asked for.

    Raises
    ------
    UnsupportedModelError
        No adapter serves the model, it holds several supported ones, it is compiled, it is adapted already, or it is
        no model; or it has no sites of a kind, or none that can be had.
    ArgumentError
        ``preprocessing`` does not tell size, mean and standard deviation, ``adapter`` is none, or ``sites`` no kind.
    PluginError
        Adapters of several distributions claim the model, ``family`` is not installed, or the adapter describes
        the model wrongly.

    Warns
    -----
    TrainingModeWarning
        The model is in training mode.
    PreprocessingWarning
        What a wrapper does to colours cannot be told, or nothing with the model tells its mean and standard deviation.

    Examples
    --------
    >>> import timm, torch
    >>> with adapt(timm.create_model("deit_tiny_patch16_224").eval()) as vit:
    ...     vit.patch_map(torch.zeros(1, 3, 224, 224), "blocks.5:42").shape
    torch.Size([1, 14, 14])
    """
    kinds = kinds_of(sites)
    if isinstance(model, AdaptedModel):
        return _with(model, kinds)
    _check(model)
    if model.training:
        warnings.warn(
            f"{type(model).__name__} is in training mode: dropout and drop path make every pass different; call "
            "model.eval()",
            TrainingModeWarning,
            stacklevel=2,
        )
    supported, registered = registry().find(model, family) if adapter is None else _given(model, adapter)
    found, stem = _describe(registered, supported, kinds)
    told = _told_by_a_wrapper(model, supported) if preprocessing is None else Preprocessing.read(preprocessing)
    hands_on = registered.adapter.hands_on(model)
    own = preprocessing_of(registered.adapter, supported, stem)
    if own.assumed and told is None and hands_on:
        # What was published lies with the whole, of which the part that sees may know nothing.
        whole = registered.adapter.preprocessing(model)
        told = None if whole is None or whole.assumed else whole
    inner, entrance = found, Entrance(registered.adapter, told=told)
    if own.assumed and told is None:
        warnings.warn(
            f"nothing with {type(supported).__name__} tells the mean and standard deviation of its images; those of "
            "ImageNet are assumed. Say it with adapt(model, preprocessing=...): its image processor will do",
            PreprocessingWarning,
            stacklevel=2,
        )
    behind = None
    if supported is not model and not hands_on and not any(parameter.is_meta for parameter in model.parameters()):
        door = Door(model, stem)
        behind = door if door.moves(own.size) else None
        if told is None:
            entrance = replace(entrance, colours=_colours(door, supported, own.size))
    if any_size:
        entrance = replace(entrance, fit=Fit(entrance.preprocessing(supported, stem).size, behind))
    if (seen_through := entrance.fit or behind) is not None:
        found = tuple(replace(site, grid=SeenThrough.of(site.grid, seen_through)) for site in found)
    return AdaptedModel(model, supported, found, stem, entrance, inner=inner, takes=output)


def _with(vit: AdaptedModel, kinds: Sequence[str]) -> AdaptedModel:
    """An adapted model, if it has sites of these kinds; of the kind that is asked for by default it may have none."""
    if missing := set(kinds) - {FEED_FORWARD} - {site.kind for site in vit.sites}:
        raise UnsupportedModelError(
            f"{vit.model_name} is adapted without sites of kind {', '.join(sorted(missing))}; restore it, and adapt "
            "the model inside it with them"
        )
    return vit


def _told_by_a_wrapper(model: nn.Module, supported: nn.Module) -> Preprocessing | None:
    """What a wrapper records of its images, as open_clip's image towers do around models of other libraries."""
    for module in model.modules():
        recorded = getattr(module, "preprocess_cfg", None)
        if isinstance(recorded, Mapping) and module is not supported and supported in {*module.modules()}:
            return Preprocessing.read(recorded)
    return None


def _given(model: nn.Module, adapter: Adapter) -> tuple[nn.Module, Registered]:
    """The module inside ``model`` that an adapter serves, or else the model itself: who gives an adapter knows why."""
    if not isinstance(adapter, Adapter):
        given = f"the class {adapter.__name__}" if isinstance(adapter, type) else shortly(adapter)
        raise ArgumentError(f"adapter is {given}; give an instance of a captum_vit.Adapter")
    adapter.check()
    served = next((module for module in model.modules() if adapter.serves(module)), model)
    return served, Registered(adapter, "the caller")


def _check(model: nn.Module) -> None:
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        named = f': captum_vit.load_model("{model}") gives that model adapted'
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


def _describe(registered: Registered, model: nn.Module, kinds: Sequence[str]) -> tuple[tuple[Site, ...], nn.Module]:
    """The model's sites of some kinds and the module that receives its image, as its adapter tells.

    A wrong tale is told apart.
    """
    adapter = registered.adapter
    blame = f'adapter "{adapter.family}" of distribution "{registered.distribution}"'
    sites = tuple(replace(site, activation=activation_of(model, site)) for site in adapter.sites(model))
    if not sites:
        raise PluginError(f"{blame} lists no site in {type(model).__name__}; it should yield its feed-forward blocks")
    if twice := [name for name, count in Counter(site.key for site in sites).items() if count > 1]:
        raise PluginError(f"{blame} lists several sites under one name: {', '.join(twice)} (dots read as underscores)")
    sites = sites_of(sites, kinds, type(model).__name__, blame)
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
