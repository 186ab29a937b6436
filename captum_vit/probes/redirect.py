"""Redirected gradients: a neuron that an activation function silences gets a gradient that leads out of silence."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum_vit.errors import RedirectError
from captum_vit.probes.forward_pass import ForwardPass
from captum_vit.probes.site import Site


class Redirect:
    """Context in which gradients at some sites go past the activation function of neurons that are silent.

    The forward pass is exact. A neuron is silent in an image where the activation function's input is negative
    everywhere that the loss looks. There the slope of GELU and SiLU is negative or nearly zero, and ReLU's is zero, so
    that such a neuron is led to silence or not at all; on the way back it is taken to be one. A neuron that speaks
    anywhere keeps its own gradient, of which that slope would make another objective: what is negative has no more to
    give. Lucid does so with InceptionV1's ReLU (Olah et al. 2017). In a gated block it is the gate that is redirected.

    Attributes
    ----------
    on
        Whether gradients are redirected now.
    reached
        Names of the sites at which they were.

    Parameters
    ----------
    sites
        The sites.
    forward_pass
        What tells the size of the image, by which sites that share a module are told apart.
    model_name
        What messages call the model.
    rows
        By site, which images of a batch it is for, ``(B,)`` of booleans on their device; all when not given.

    Raises
    ------
    RedirectError
        A site has no activation module that is known.
    """

    def __init__(
        self,
        sites: Iterable[Site],
        forward_pass: ForwardPass,
        model_name: str,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.on = True
        self.reached: set[str] = set()
        self.model_name = model_name
        self._rows = rows
        self._thread: int | None = None
        by_module: dict[nn.Module, list[Site]] = {}
        for site in sites:
            if site.activation is None:
                raise _unknown(site.name, model_name)
            by_module.setdefault(site.activation, []).append(site)
        self._hooks = [_RedirectHook(self, module, own, forward_pass) for module, own in by_module.items()]

    def __enter__(self) -> Redirect:
        self._thread = threading.get_ident()
        for hook in self._hooks:
            hook.put_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.take_off()

    def check(self) -> None:
        """Make sure that gradients were redirected at every site that ran.

        Raises
        ------
        RedirectError
            What is taken for a site's activation function does not give its hidden activation.
        """
        for hook in self._hooks:
            if hook.called and not self.reached & {site.name for site in hook.sites}:
                raise _unknown(hook.sites[0].name, self.model_name)

    def concerns_this_thread(self) -> bool:
        """Whether it is on, in the thread that entered the context: a model's hooks are seen by all."""
        return self.on and self._thread == threading.get_ident()

    def rows(self, site: Site) -> Tensor | None:
        """Which images of a batch it is for at a site; None: all."""
        return None if self._rows is None else self._rows[site.name]


def _unknown(name: str, model_name: str) -> RedirectError:
    return RedirectError(
        f'no activation function is known at "{name}" in {model_name}, so gradients cannot be redirected there; an '
        "adapter names it with feed_forward(..., activation=block.mlp.act)"
    )


class _RedirectHook:
    """A pair of hooks on one activation module."""

    def __init__(self, redirect: Redirect, module: nn.Module, sites: Sequence[Site], forward_pass: ForwardPass) -> None:
        self.redirect = redirect
        self.module = module
        self.sites = sites
        self.forward_pass = forward_pass
        self.called = False
        self._input: Tensor | None = None
        self._handles: list[RemovableHandle] = []

    def put_on(self) -> None:
        """Hook the module."""
        self._handles = [
            self.module.register_forward_pre_hook(self._before),
            self.module.register_forward_hook(self._after),
        ]

    def take_off(self) -> None:
        """Leave the module as it was."""
        self._input = None
        while self._handles:
            self._handles.pop().remove()

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self.redirect.concerns_this_thread():
            return None
        self.called = True
        self._input = args[0]
        # What is computed in place would be gone afterwards.
        return (args[0].clone(), *args[1:]) if getattr(module, "inplace", False) else None

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        before, self._input = self._input, None
        if before is None:
            return None
        arrived = self._arrived(before)
        if arrived is None:
            return None
        site, images = arrived
        self.redirect.reached.add(site.name)
        rows = self.redirect.rows(site)
        concerned = None if rows is None else images.spread(rows, before)
        redirected: Tensor = _PastActivation.apply(before, output, concerned, images)
        return redirected

    def _arrived(self, activation: Tensor) -> tuple[Site, _Images] | None:
        """The site that the module now computes for, and how images lie; None if it is another than those asked for."""
        size, shape = self.forward_pass.image_size, tuple(activation.shape)
        if size is None:
            return None
        for site in self.sites:
            layout, grid = site.layout, site.grid(size)
            if layout.fits(shape, site.units, grid):
                return site, _Images(layout.batch_axis, layout.rows_an_image(site.units, grid), layout.unit_axis)
        return None


@dataclass(frozen=True)
class _Images:
    """How the images of a batch lie in an activation.

    Attributes
    ----------
    axis
        The axis that holds them.
    rows
        How much of it each takes.
    unit_axis
        The axis that holds the units; None if there is none.
    """

    axis: int
    rows: int
    unit_axis: int | None

    def spread(self, each: Tensor, activation: Tensor) -> Tensor:
        """What is told of each image, or of each of its views together, as it is broadcast over an activation."""
        times = activation.shape[self.axis] // len(each)
        lying = each if times == 1 else each.repeat_interleave(times)
        return lying.view([-1 if axis == self.axis else 1 for axis in range(activation.ndim)])

    def any_of(self, flags: Tensor) -> Tensor:
        """For each image and unit of ``flags``, which lie as the activation, whether any is true; to be broadcast."""
        others = [axis for axis in range(flags.ndim) if axis not in (self.axis, self.unit_axis)]
        found = flags.any(dim=others, keepdim=True) if others else flags
        if self.rows == 1:
            return found
        by_image = found.unflatten(self.axis, (-1, self.rows))
        whole: Tensor = by_image.any(dim=self.axis + 1, keepdim=True).expand_as(by_image)
        return whole.flatten(self.axis, self.axis + 1)


class _PastActivation(torch.autograd.Function):
    """What an activation function gave; the gradients of units that are silent in an image pass by it."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, after: Tensor, concerned: Tensor | None, images: _Images) -> Tensor:
        """The output, as it is."""
        ctx.save_for_backward(before < 0)
        ctx.concerned, ctx.images = concerned, images
        return after.view_as(after)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """To the input where that is negative and its unit silent in this image, and else to the output."""
        (negative,) = ctx.saved_tensors
        past = negative & ~ctx.images.any_of(~negative & (gradient != 0))
        if ctx.concerned is not None:
            past &= ctx.concerned
        return gradient.masked_fill(~past, 0), gradient.masked_fill(past, 0), None, None


def activation_of(model: nn.Module, site: Site) -> nn.Module | None:
    """The activation function of a block: what its adapter names, or the last one registered before ``reads``.

    It is looked for in the smallest module around ``reads`` that has any, and no farther than in the block itself.
    """
    if site.activation is not None or site.reads is None:
        return site.activation
    try:
        block = model.get_submodule(site.name)
    except AttributeError:  # a name of its own
        return None
    place = next((path for path, module in block.named_modules() if module is site.reads), "")
    while place:
        place = place.rpartition(".")[0]
        modules = list(block.get_submodule(place).modules())
        if found := [module for module in modules[: modules.index(site.reads)] if _is_activation(module)]:
            return found[-1]
    return None


def _is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation function, as torch, timm and transformers name the homes of theirs."""
    return (
        "activation" in type(module).__module__
        and not isinstance(module, nn.MultiheadAttention | nn.Softmax | nn.Softmax2d | nn.LogSoftmax)
        and "igmoid" not in type(module).__name__
    )
