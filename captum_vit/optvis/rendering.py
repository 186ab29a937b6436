"""The render loop: many neurons at once, each with an image and a random stream of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captum_vit.optvis.losses import Objective, Target, losses_of
from captum_vit.optvis.randomness import RandomStream
from captum_vit.optvis.recipe import Recipe
from captum_vit.optvis.recipes import find_recipe
from captum_vit.optvis.results import Render, Renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import Size
from captum_vit.probes.layers import frozen
from captum_vit.progress import progress_bar


def render(
    vit: AdaptedModel,
    neurons: str | Objective | Sequence[str | Objective],
    *,
    recipe: str | Recipe = "ghiasi2022",
    steps: int | None = None,
    size: int | Size | None = None,
    seed: int = 0,
    batch_size: int = 8,
    dtype: torch.dtype | None = None,
    compile: bool | str = False,
    progress: bool = True,
    callback: Callable[[int, int], None] | None = None,
) -> Renders:
    """Optimize an image for each neuron.

    A neuron's image depends on the seed and the neuron, not on which others are rendered with it, nor on the batch
    size, up to the rounding of floating-point arithmetic.

    Parameters
    ----------
    vit
        The adapted model.
    neurons
        An address (``"blocks.5:42"``), a Lucent objective, or several of either.
    recipe
        Name of a recipe, or a recipe; see :mod:`captum_vit.recipes`.
    steps
        Number of steps, instead of the recipe's.
    size
        Side of the image in pixels or (height, width); the model's input size when not given. A model that takes
        one size only sees the image resized to it.
    seed
        Seed of the random streams.
    batch_size
        Neurons to render at a time.
    dtype
        Type to which the forward pass is autocast, such as ``torch.bfloat16``; none when not given.
    compile
        Whether to run the model through ``torch.compile``, or the name of a backend for it. Addresses only: what a
        Lucent objective reads is hooked, and compiled code may not see the hooks.
    progress
        Whether to show a progress bar with the time left.
    callback
        Called after each step with the numbers of finished steps and of all steps.

    Returns
    -------
    Renders
        Images, activation histories and what is needed to repeat them.

    Raises
    ------
    AddressError
        An address is malformed or names what the model does not have.
    RecipeError
        There is no such recipe.
    """
    recipe = find_recipe(recipe)
    steps = recipe.steps if steps is None else steps
    pixels = vit.preprocessing.size if size is None else (size, size) if isinstance(size, int) else size
    asked = [neurons] if isinstance(neurons, str) or callable(neurons) else list(neurons)
    targets = [Target.of(vit, neuron) for neuron in asked]
    # Neurons of like depth together, so that a batch runs no deeper than its neurons need.
    order = sorted(range(len(targets)), key=lambda index: targets[index].depth)
    settings = render_settings(vit, recipe, steps, pixels, seed, dtype, compile)
    forward = torch.compile(vit, backend=compile if isinstance(compile, str) else "inductor") if compile else vit
    done: dict[int, Render] = {}
    total = len(targets) * steps
    with frozen(vit), progress_bar("Rendering", total, disable=not progress) as advance:
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            loop = RenderLoop(vit, [targets[index] for index in batch], recipe, steps, pixels, seed, dtype, forward)
            for step in loop.steps():
                advance(len(batch))
                if callback is not None:
                    callback(first * steps + (step + 1) * len(batch), total)
            done |= zip(batch, loop.finish(settings), strict=True)
    return Renders(tuple(done[index] for index in range(len(targets))))


class RenderLoop:
    """The optimization of one batch of neurons, step by step.

    The images are the rows of one parameter tensor, and optimizers work element by element, so that each image moves
    as it would alone.
    """

    def __init__(
        self,
        vit: AdaptedModel,
        targets: Sequence[Target],
        recipe: Recipe,
        steps: int,
        size: Size,
        seed: int,
        dtype: torch.dtype | None = None,
        forward: Callable[[Tensor], Any] | None = None,
    ) -> None:
        parameter = next(vit.parameters())
        self.vit = vit
        self.targets = targets
        self.recipe = recipe
        self.count = steps
        self.size = size
        self.input_size = size if vit.preprocessing.any_size else vit.preprocessing.size
        self.device = parameter.device
        self.dtype = parameter.dtype
        self.autocast = dtype
        self.streams = [RandomStream(seed, target.name, self.device) for target in targets]
        starts = []
        for stream in self.streams:
            with stream:
                starts.append(recipe.parametrization.start(size))
        self.parameters = torch.stack(starts).to(self.device).requires_grad_()
        self.transforms = [recipe.transforms(steps) for _ in targets]
        self.history = np.full((len(targets), steps), np.nan, dtype=np.float32)
        self.first_images = self.images().detach().clone()
        self.broken: dict[int, int] = {}  # step at which a target's loss stopped being finite
        self.losses = losses_of(vit, targets, self.images, vit if forward is None else forward)

    def images(self) -> Tensor:
        """The images as they are, ``(N, 3, H, W)`` in [0, 1]."""
        return self.recipe.parametrization.images(self.parameters, self.size)

    def steps(self) -> Iterator[int]:
        """Take the steps one by one."""
        optimizer = self.recipe.optimizer([self.parameters])
        schedule = self.recipe.schedule(optimizer, self.count) if self.recipe.schedule else None
        with self.losses:
            for step in range(self.count):
                optimizer.zero_grad()
                self._backward(step)
                optimizer.step()
                if schedule is not None:
                    schedule.step()
                with torch.no_grad():
                    self.recipe.parametrization.project(self.parameters)
                yield step

    def _backward(self, step: int) -> None:
        copies = [self._transformed(index, image[None]) for index, image in enumerate(self.images())]
        losses = self._losses(copies)
        self.history[:, step] = -losses.detach().cpu().numpy()
        if self.recipe.penalty is not None:
            losses = losses + torch.stack([self.recipe.penalty(images) for images in copies])
        finite = losses.isfinite()
        for index in (~finite).nonzero().flatten().tolist():
            self.broken.setdefault(index, step)
        total = losses[finite].sum()
        total.backward()
        # One neuron's overflow must not stop the others: its image stays where it was.
        gradient = self.parameters.grad
        assert gradient is not None
        whole = gradient.flatten(1).isfinite().all(dim=1)
        for index in (~whole).nonzero().flatten().tolist():
            self.broken.setdefault(index, step)
            gradient[index] = 0

    def _transformed(self, index: int, image: Tensor) -> Tensor:
        with self.streams[index]:
            for transform in self.transforms[index]:
                image = transform(image)
        return image

    def _losses(self, copies: Sequence[Tensor]) -> Tensor:
        """Losses ``(N,)`` of the targets on their copies, ``(copies, 3, H, W)`` each."""
        inputs = _joined([_resize(images, self.input_size) for images in copies])
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return self.losses(
                self.vit.preprocessing.normalize(inputs.to(self.dtype)), [len(images) for images in copies]
            )

    def finish(self, settings: Mapping[str, Any]) -> list[Render]:
        """The results, after the last step."""
        with torch.no_grad(), self.losses:
            images = self.images().detach()
            activations = (-self._losses(images.split(1))).tolist()
            starts = (-self._losses(self.first_images.split(1))).tolist()
        renders = []
        for index, target in enumerate(self.targets):
            change = (images[index] - self.first_images[index]).abs().max().item()
            renders.append(
                Render(
                    neuron=target.name,
                    image=images[index].permute(1, 2, 0).float().cpu().numpy(),
                    history=self.history[index],
                    activation=activations[index],
                    start=starts[index],
                    settings=settings,
                    problem=self._problem(index, change, activations[index], starts[index]),
                )
            )
        return renders

    def _problem(self, index: int, change: float, activation: float, start: float) -> str | None:
        """What is wrong with a finished render, in words."""
        if index in self.broken:
            return f"the loss was not finite from step {self.broken[index] + 1} on"
        if change < 0.5 / 255:
            return "the image never changed: the neuron gives no gradient"
        if not activation > start:
            return f"dead: the activation never rose above its start ({activation:.3g}, at first {start:.3g})"
        if self.targets[index].neuron is not None and activation <= 0:
            # GELU is negative below zero and rises towards zero: what silences a neuron can look like progress.
            return f"silenced and not excited: the finished activation is {activation:.3g}"
        return None


def _joined(images: Sequence[Tensor]) -> Tensor:
    return images[0] if len(images) == 1 else torch.cat(list(images))


def _resize(images: Tensor, size: Size) -> Tensor:
    if images.shape[2:] == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def render_settings(
    vit: AdaptedModel,
    recipe: Recipe,
    steps: int,
    size: Size,
    seed: int,
    dtype: torch.dtype | None = None,
    compile: bool | str = False,
) -> dict[str, Any]:
    """What repeats a render, in words and numbers that JSON holds."""
    return {
        "model": vit.model_name,
        "recipe": recipe.name,
        "source": recipe.source,
        "steps": steps,
        "size": list(size),
        "seed": seed,
        "compiled": bool(compile),
        "autocast": None if dtype is None else str(dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in ("captum-vit", "torch", "timm", "numpy")},
    }
