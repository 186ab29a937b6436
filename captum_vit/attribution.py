"""Captum's methods by name: which pixels matter to a neuron, with settings that suit a patch grid."""

from __future__ import annotations

import difflib
import inspect
import re
from typing import Any

import torch
from captum import attr
from captum._utils.models.linear_model import SkLearnRidge
from torch import Tensor

from captum_vit.checks import check_adapted, image_batch, place_in_grid, shortly
from captum_vit.errors import ImageSizeError, MethodError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.recording import recording
from captum_vit.probes.site import Site

DEFAULT_METHOD = "integrated-gradients"

# Exact Shapley values take a pass for each order of the features, ten of which have 3.6 million.
_MOST_FEATURES = 10

_CANNOT_WORK = {
    "lrp": "Captum has no propagation rules for LayerNorm and GELU, and none could be given to attention",
}

# What attribute() passes itself, or would change what it returns.
_NOT_OPTIONS = {
    *("self", "inputs", "kwargs", "forward_func", "model", "attribution_method"),
    *("target", "additional_forward_args", "return_convergence_delta", "return_input_shape"),
}


def methods() -> tuple[str, ...]:
    """Names that :func:`attribute` takes, found in the installed Captum: ``"saliency"`` is its ``Saliency``.

    They are its methods that explain a function of the input and need nothing but that function. ``"noise-tunnel"``
    is not among them: it is a prefix, as in ``"noise-tunnel:saliency"``, of any other.
    """
    return tuple(sorted(name for name in _primary() if name not in {*_CANNOT_WORK, *_wrappers()}))


def attribute(
    vit: AdaptedModel,
    address: str,
    images: Tensor,
    method: str = DEFAULT_METHOD,
    *,
    patch: tuple[int, int] | None = None,
    **options: Any,
) -> Tensor:
    """Attribute a neuron's activation to pixels by one of Captum's methods.

    Short for ``Method(vit.neuron(address, patch)).attribute(images, …)``, with these settings unless they are among
    the options:

    - Baselines are zero, the colour that the model's normalization subtracts: the mean of its training images, or
      mid-grey.
    - Methods that perturb features perturb the patches of the neuron's site, ``site.feature_mask``, 16 at a time;
      occlusion slides a window of the size of a patch by half a patch.
    - LIME fits ridge regression to 1000 samples, as in its authors' package, because the penalty of Captum's lasso
      is larger than most activations; KernelSHAP takes ``2 * patches + 2048`` samples, as in SHAP.
    - The noise of a noise tunnel is 0.15 of the images' range, between the 10% and 20% that its authors recommend
      (Smilkov et al. 2017, arXiv 1706.03825).

    Otherwise Captum's defaults hold. On a transformer without ReLU, ``"guided-backprop"`` and ``"deconvolution"`` are
    the plain gradient, and ``"deep-lift"`` is the gradient times the difference from the baseline.

    Parameters
    ----------
    vit
        The adapted model.
    address
        ``"site:unit"``.
    images
        Shape ``(B, 3, H, W)``, as the model expects them (``vit.preprocessing.normalize(pixels)``).
    method
        One of :func:`methods`, or such a name after ``"noise-tunnel:"``.
    patch
        ``(row, column)`` of the patch whose activation is explained; the mean over all patches when not given.
    **options
        For Captum's class or for its ``attribute``, such as ``n_steps=20`` or ``baselines=black``.

    Returns
    -------
    Tensor
        Attributions ``(B, 3, H, W)``. Methods that perturb patches give each value of a patch the effect of all.

    Raises
    ------
    AddressError
        The address is malformed, or the model has no such site, unit or patch.
    ArgumentError
        The model is not adapted.
    GridError
        The images are too small to give a patch.
    MethodError
        There is no such method or option, the images are no tensor of images, or the method cannot be applied to them.
    """
    check_adapted(vit)
    kind, wrapper = _find(method)
    site, _ = vit.address(address)
    image_batch("images", images, MethodError)
    patch = None if patch is None else place_in_grid("patch", patch, MethodError)
    accepted = options_of(method)
    if unknown := sorted(set(options) - set(accepted)):
        raise MethodError(f'"{method}" has no option {", ".join(unknown)}; it takes {", ".join(accepted)}')
    defaults = _defaults(kind, wrapper, site, images)
    settings = {name: value for name, value in defaults.items() if name in accepted} | options
    _check_that_it_applies(kind, settings, images)
    for_constructor = inspect.signature(kind).parameters
    explainer = kind(
        vit.neuron(address, patch), **{name: value for name, value in settings.items() if name in for_constructor}
    )
    settings = {name: value for name, value in settings.items() if name not in for_constructor}
    if wrapper:
        explainer = wrapper(explainer)
    try:
        # Captum would set requires_grad on the caller's tensor for a while, and say so in a warning.
        with recording():
            attributions: Tensor = explainer.attribute(images.detach().clone().requires_grad_(), **settings)
    except ImageSizeError:
        raise
    except AssertionError as error:  # how Captum refuses an input
        raise MethodError(f'Captum\'s "{method}" cannot be applied here: {error}') from error
    return attributions.detach()


def options_of(method: str) -> tuple[str, ...]:
    """Names of the options that :func:`attribute` takes with a method; Captum documents them.

    Raises
    ------
    MethodError
        There is no such method; the message says why, or which names are similar.
    """
    kinds = [kind for kind in _find(method) if kind]
    names = {name for kind in kinds for part in (kind, kind.attribute) for name in inspect.signature(part).parameters}
    return tuple(sorted(names - _NOT_OPTIONS))


def _find(method: str) -> tuple[Any, Any]:
    """Captum's class of that name, and the class that wraps it or None."""
    if not isinstance(method, str):
        raise MethodError(f'method is {shortly(method)}; give a name, such as "{DEFAULT_METHOD}"')
    prefix, _, name = method.rpartition(":")
    wrappers = _wrappers()
    if name in wrappers:
        raise MethodError(f'"{name}" varies another method; name that too, such as "{name}:saliency"')
    if name in _CANNOT_WORK:
        raise MethodError(f'"{name}" cannot explain a transformer: {_CANNOT_WORK[name]}')
    for word, known in ((prefix, wrappers), (name, {each: _primary()[each] for each in methods()})):
        if word and word not in known:
            similar = difflib.get_close_matches(word.lower(), known, n=3)
            hint = f"did you mean {' or '.join(similar)}?" if similar else f"there are {', '.join(known)}"
            raise MethodError(f'no attribution method "{word}"; {hint}')
    if not name:
        raise MethodError(f"no attribution method named; there are {', '.join(methods())}")
    return _primary()[name], wrappers.get(prefix)


def _primary() -> dict[str, Any]:
    """Captum's classes that explain a function of the input, by name."""
    found = {}
    for name, kind in vars(attr).items():
        if not (inspect.isclass(kind) and issubclass(kind, attr.Attribution)):
            continue
        explain = getattr(kind, "attribute", None)  # Captum's abstract classes have none
        if explain is None or issubclass(kind, attr.LayerAttribution | attr.NeuronAttribution):
            continue
        needed = [each for each in inspect.signature(kind).parameters.values() if each.default is each.empty]
        if len(needed) == 1 and "inputs" in inspect.signature(explain).parameters:
            found[re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()] = kind
    return found


def _wrappers() -> dict[str, Any]:
    """Those that vary another method."""
    return {
        name: kind for name, kind in _primary().items() if "attribution_method" in inspect.signature(kind).parameters
    }


def _defaults(kind: Any, wrapper: Any, site: Site, images: Tensor) -> dict[str, Any]:
    """Settings by the names of Captum's parameters; a method takes those that it has."""
    image_size = (images.shape[-2], images.shape[-1])
    cells = site.grid(image_size)
    height, width = (max(1, pixels // count) for pixels, count in zip(image_size, cells, strict=True))
    settings: dict[str, Any] = {
        "feature_mask": site.feature_mask(image_size).to(images.device),
        "perturbations_per_eval": 16,
        "internal_batch_size": max(16, len(images)),
        "sliding_window_shapes": (images.shape[1], height, width),
        "strides": (images.shape[1], max(1, height // 2), max(1, width // 2)),
    }
    own: dict[Any, dict[str, Any]] = {
        # Captum's other methods take zeros where no baselines are given; these want a set of two or more.
        attr.DeepLiftShap: {"baselines": torch.zeros_like(images[:1]).repeat(2, 1, 1, 1)},
        attr.GradientShap: {"baselines": torch.zeros_like(images[:1])},
        attr.KernelShap: {"n_samples": 2 * cells[0] * cells[1] + 2048},
        attr.Lime: {"n_samples": 1000, "interpretable_model": SkLearnRidge(alpha=1.0)},
        attr.NoiseTunnel: {"stdevs": 0.15 * float(images.max() - images.min())},
    }
    return settings | own.get(kind, {}) | own.get(wrapper, {})


def _check_that_it_applies(kind: Any, settings: dict[str, Any], images: Tensor) -> None:
    """Refuse what Captum would answer with zeros, or never."""
    if kind is attr.FeaturePermutation and len(images) < 2:
        raise MethodError('"feature-permutation" exchanges patches between images; give two or more at a time')
    if kind is attr.ShapleyValues and (features := len(settings["feature_mask"].unique())) > _MOST_FEATURES:
        raise MethodError(
            f'"shapley-values" tries every order of {features} patches; take "shapley-value-sampling", or give a '
            f"feature_mask of at most {_MOST_FEATURES} features"
        )
