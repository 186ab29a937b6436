"""Lucent's render loop with Lucent's results, but running no more of the model than the objective reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_vit.checks import shortly, some, whole_number
from captum_vit.errors import ArgumentError, MissingLibraryError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.address import Address
from captum_vit.probes.grid import Size
from captum_vit.probes.layers import LayerOutputs
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.probes.recording import check_recorded, recording
from captum_vit.probes.twin import frozen_twin
from captum_vit.progress import progress_bar

Parametrization = Callable[[], tuple[Sequence[Tensor], Callable[[], Tensor]]]
Transform = Callable[[Tensor], Tensor]
Objective = str | Callable[[Callable[[str], Tensor]], Tensor]


@recording()
def render_vis(
    model: nn.Module,
    objective_f: Objective,
    param_f: Parametrization | None = None,
    optimizer: Callable[[Sequence[Tensor]], torch.optim.Optimizer] | None = None,
    transforms: Sequence[Transform] | None = None,
    thresholds: Sequence[int] = (512,),
    verbose: bool = False,
    preprocess: bool | None = None,
    progress: bool = True,
    show_image: bool = True,
    save_image: bool = False,
    image_name: str | None = None,
    show_inline: bool = False,
    fixed_image_size: int | tuple[int, int] | None = None,
    *,
    callback: Callable[[int], None] | None = None,
) -> list[NDArray[np.float32]]:
    """Render an objective as ``lucent.optvis.render.render_vis`` does: same arguments, draws and images, but faster.

    No gradient of a weight is computed, and no flag of one changes; only the layers that the objective reads are
    hooked, and the forward pass stops after the last of them. The images are Lucent's bit for bit, except where PyTorch
    multiplies with weights that ask for no gradient in another order (a difference of 1e-7 a step).

    Parameters
    ----------
    model
        An adapted model (or any module that Lucent renders).
    objective_f
        An address (``"blocks.5:42"``, ``"ffn_blocks_5:42"``) or a Lucent objective.
    param_f
        Returns the parameters and a function from them to images ``(B, 3, H, W)`` in [0, 1]; ``param.image(128)``
        as in Lucent when not given, or the model's input size where that is smaller.
    optimizer
        From parameters to optimizer; Adam with learning rate 0.05 when not given.
    transforms
        Applied in order before each pass; Lucent's standard transforms when not given.
    thresholds
        Steps at which to keep the image; the largest is the number of steps.
    verbose
        Whether to print the loss at the start and at the thresholds.
    preprocess
        None, the default: the model's own mean, standard deviation and input size, which is right for every model.
        True: Lucent's rule, ImageNet's mean and standard deviation and at least 224 pixels. False: Lucent's rule
        without normalization. For a 224-pixel model with ImageNet's mean, None and True give the same images as long
        as the parametrization is smaller than 224 pixels (Lucent does not resize larger ones).
    progress, show_image, save_image, image_name, show_inline
        As in Lucent: a progress bar, showing and saving the last image.
    fixed_image_size
        Size in pixels to which images are resized after the transforms, instead of the rule of ``preprocess``.
    callback
        Called with the number of each finished step.

    Returns
    -------
    list of ndarray
        Images ``(B, H, W, 3)`` in [0, 1], one for each threshold. Ctrl-C ends the render and returns what there is.

    Raises
    ------
    AddressError
        The address or a layer that the objective reads is not in the model.
    ArgumentError
        The model is none, there is no threshold, or a threshold or size means nothing.
    MissingLibraryError
        Lucent is not installed.
    """
    param, transform, stock = lucents("optvis.param"), lucents("optvis.transform"), lucents("optvis.render")
    show = lucents("misc.io").show
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is {shortly(model)}; give an adapted model: captum_vit.adapt(model)")
    if not (isinstance(objective_f, str) or callable(objective_f)):
        raise ArgumentError(f'objective_f is {shortly(objective_f)}; give an address, "blocks.5:42", or an objective')
    thresholds = [whole_number("thresholds", each) for each in some("thresholds", thresholds, "(512,)")]
    for size in (fixed_image_size,) if isinstance(fixed_image_size, int) else fixed_image_size or ():
        whole_number("fixed_image_size", size)
    preprocessing = model.preprocessing if isinstance(model, AdaptedModel) else Preprocessing.of(model)
    if param_f is None:
        height, width = (min(128, pixels) for pixels in preprocessing.size)
        param_f = lambda: param.image(width, h=height)  # noqa: E731
    params, image_f = param_f()
    if optimizer is None:
        optimizer = lambda params: torch.optim.Adam(params, lr=5e-2)  # noqa: E731
    stepper = optimizer(params)
    height, width = image_f().shape[2:]
    transform_f = transform.compose(
        [
            *(transform.standard_transforms if transforms is None else transforms),
            *_preprocessing(preprocessing, preprocess, (height, width), fixed_image_size),
        ]
    )
    model = frozen_twin(model)
    layers = LayerOutputs(model, image_f)
    objective = _objective(model, objective_f, layers)
    images: list[NDArray[np.float32]] = []
    step = 0

    def closure() -> Tensor:
        stepper.zero_grad()
        layers.run(transform_f(image_f()))
        loss = check_recorded(objective(layers))
        torch.autograd.backward(loss, inputs=list(params))
        return loss

    with layers:
        if verbose:
            layers.run(transform_f(image_f()))
            print(f"Initial loss: {objective(layers):.3f}")
        try:
            with progress_bar("Rendering", max(thresholds), disable=not progress) as advance:
                for step in range(1, max(thresholds) + 1):
                    stepper.step(closure)  # type: ignore[arg-type]
                    if step in thresholds:
                        images.append(stock.tensor_to_img_array(image_f().float()))
                        if verbose:
                            print(f"Loss at step {step}: {objective(layers):.3f}")
                            if show_inline:
                                show(images[-1])
                    if callback is not None:
                        callback(step)
                    advance(1)
        except KeyboardInterrupt:
            print(f"Interrupted optimization at step {step}.")
            images.append(stock.tensor_to_img_array(image_f().float()))
    if save_image:
        stock.export(image_f(), image_name)
    if show_inline:
        show(stock.tensor_to_img_array(image_f().float()))
    elif show_image:
        stock.view(image_f())
    return images


def lucents(module: str) -> Any:
    """One of Lucent's modules, which take long to import and need not be there for anything but Lucent's loop.

    Raises
    ------
    MissingLibraryError
        Lucent is not installed, or what has its name is something else.
    """
    try:
        return import_module(f"lucent.{module}")
    except ImportError as error:
        raise MissingLibraryError(
            f"render_vis is Lucent's loop and needs Lucent ({error}); pip install \"captum-vit[lucent]\" (PyPI's "
            '"lucent" is another project), or use captum_vit.render, which needs nothing else'
        ) from error


def _objective(model: nn.Module, objective_f: Objective, layers: LayerOutputs) -> Callable[[LayerOutputs], Tensor]:
    """The objective; an address in the package's words is checked and put in Lucent's."""
    objectives = lucents("optvis.objectives")
    if isinstance(objective_f, str) and isinstance(model, AdaptedModel):
        name = Address.parse(objective_f).site
        if name != "labels" and (name not in layers.modules or name.startswith("ffn_")):
            site, unit = model.address(objective_f)
            return objectives.channel(site.layer, unit)  # type: ignore[no-any-return]
    return objectives.as_objective(objective_f)  # type: ignore[no-any-return]


def _preprocessing(
    preprocessing: Preprocessing, preprocess: bool | None, image_size: Size, fixed_image_size: int | Size | None
) -> list[Transform]:
    """The transforms that come after the user's: normalization, then resizing, in Lucent's order."""
    transform = lucents("optvis.transform")
    normalize: list[Transform] = []
    size: int | Size | None
    if preprocess is None:
        normalize, size = [preprocessing.normalize], preprocessing.size
    else:
        normalize = [transform.normalize()] if preprocess else []
        size = 224 if min(image_size) < 224 else None
    if fixed_image_size is not None:
        size = fixed_image_size
    return normalize if size is None else [*normalize, nn.Upsample(size=size, mode="bilinear", align_corners=True)]
