"""The render loop: one batch of neurons, step by step, without a look at the device until the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from captum_vit.data.images import open_rgb
from captum_vit.optvis.foreign import stages
from captum_vit.optvis.losses import Target, losses_of
from captum_vit.optvis.penalties import Penalty
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.randomness import Draws, stream_key
from captum_vit.optvis.results import Render
from captum_vit.optvis.robustness import six_views
from captum_vit.optvis.views import Views
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import Size
from captum_vit.probes.recording import check_recorded, recording

# Of the losses under float16, whose smallest numbers gradients of means over patches fall short of.
_FIRST_SCALE, _GROWTH = 2.0**14, 2.0 ** (1 / 64)


class RenderLoop:
    """The optimization of one batch of neurons.

    The images are the rows of one parameter tensor, and everything that is done to it is done row by row, so that each
    image moves as it would alone. The number of operations does not depend on the number of rows, and no step reads
    from the device: what a step finds out stays there until :meth:`finish`.

    Parameters
    ----------
    vit
        The adapted model; a frozen twin (:func:`captum_vit.probes.twin.frozen_twin`) spares memory.
    targets
        What the images are optimized for.
    plan
        How.
    """

    @recording()
    def __init__(self, vit: AdaptedModel, targets: Sequence[Target], plan: RenderPlan) -> None:
        recipe, device = plan.recipe, vit.device
        self.targets = targets
        self.plan = plan
        self.device = device
        self.model_dtype = plan.weights_dtype
        self.dtype = torch.float64 if self.model_dtype == torch.float64 else torch.float32
        keys = [stream_key(plan.seed, target.stream) for target in targets]
        self.draws = Draws(keys, plan.steps, device, [target.relative_depth for target in targets])
        self.decode = recipe.parametrization.decoder(plan.size, device)
        self.parameters = self._start().requires_grad_()
        self.descent = recipe.optimizer.descent(self.parameters)
        self.stages = stages(recipe.transforms)
        self.best = self.parameters.detach().clone() if recipe.finish != "last" else None
        self.lowest = torch.full((len(targets),), torch.inf, device=device)
        self.history = torch.full((len(targets), plan.steps), torch.nan, device=device)
        self.finite = torch.ones_like(self.history, dtype=torch.bool)
        self.scale = torch.full((len(targets),), _FIRST_SCALE, device=device) if plan.dtype == "float16" else None
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=device).view(1, 1, -1, 1, 1)
            for values in (vit.preprocessing.mean, vit.preprocessing.std)
        )
        self.normalization = 1 / std, -mean / std
        self.losses = losses_of(vit, targets, self.images)

    def images(self) -> Tensor:
        """The images as they are, ``(N, 3, H, W)`` in [0, 1]."""
        return self.decode(self.parameters)

    def steps(self) -> Iterator[int]:
        """Take the steps one by one."""
        with self.losses:
            for step in range(self.plan.steps):
                self._step(step)
                yield step

    @recording()
    def _step(self, step: int) -> None:
        recipe = self.plan.recipe
        self.losses.redirect(step < recipe.redirect * self.plan.steps)
        views = Views.of(self.images()[:, None], self.plan.input_size)
        for number, stage in enumerate(self.stages):
            views = stage.apply(views, self.draws.at(step, number + 1))
        losses = check_recorded(self._losses(views))
        self.history[:, step] = losses.detach()
        if isinstance(recipe.penalty, Penalty):
            total = losses + recipe.penalty.of(views)
        elif recipe.penalty is not None:
            total = losses + recipe.penalty(views.pixels.expand(-1, views.copies, -1, -1, -1))
        else:
            total = losses
        gradient, stays = self._gradient(total, step)
        if self.best is not None:
            self._remember_best(losses.detach())
        self.descent.step(gradient, stays, recipe.rate(step, self.plan.steps))
        with torch.no_grad():
            recipe.parametrization.project(self.parameters)

    def _losses(self, views: Views) -> Tensor:
        """Losses ``(N,)`` of the targets on their views."""
        inputs = views.recoloured(*self.normalization).at_size(self.plan.input_size)
        if inputs.shape[1] != views.copies:
            inputs = inputs.expand(-1, views.copies, -1, -1, -1)
        dtype = self.plan.torch_dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype != self.model_dtype):
            return self.losses(inputs.flatten(0, 1).to(self.model_dtype), views.copies)

    def _gradient(self, total: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Gradient of the parameters, and for each image, ``(N, 1, ...)``, whether it stays where it is.

        One neuron's overflow must not stop the others: its gradient is zero then, and its image does not move.
        """
        scaled = total if self.scale is None else total * self.scale
        (gradient,) = torch.autograd.grad(scaled.sum(), self.parameters)
        # A norm is finite if all that it is of is.
        whole = (torch.linalg.vector_norm(gradient.flatten(1), dim=1) + total.detach()).isfinite()
        rows = (-1, *[1] * (gradient.ndim - 1))
        if self.scale is None:
            self.finite[:, step] = whole
        else:
            # A gradient that overflows asks for a smaller scale, and is no fault unless that cannot be had.
            gradient = gradient / self.scale.view(rows)
            self.finite[:, step] = whole | ((self.scale > 1) & total.detach().isfinite())
            self.scale = torch.where(whole, self.scale * _GROWTH, self.scale / 2).clamp_(1, 2.0**24)
        stays = ~whole.view(rows)
        return gradient.masked_fill_(stays, 0), stays

    @torch.no_grad()
    def _remember_best(self, losses: Tensor) -> None:
        assert self.best is not None
        better = losses < self.lowest
        self.lowest = torch.where(better, losses, self.lowest)
        self.best = torch.where(better.view(-1, *[1] * (self.best.ndim - 1)), self.parameters, self.best)

    @torch.no_grad()
    def _start(self) -> Tensor:
        parametrization = self.plan.recipe.parametrization
        if self.plan.start is None:
            return parametrization.start(self.plan.size, self.draws.at(0, 0)).to(self.dtype)
        photo = ImageOps.fit(open_rgb(self.plan.start[0]), self.plan.size[::-1], Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].to(self.device) / 255
        parameters = parametrization.encode(pixels.float()).to(self.dtype)
        return parameters.expand(len(self.targets), *parameters.shape[1:]).clone()

    @recording()
    @torch.no_grad()
    def finish(self) -> list[Render]:
        """The results, after the last step."""
        first, images = self.decode(self._start()), self.images().detach()
        with self.losses:
            starts = -self._losses(self._seen(first))
            activations, worst = self._judged(images)
            if self.best is not None:
                best = self.decode(self.best)
                reached, steady = self._judged(best)
                better = reached > activations if self.plan.recipe.finish == "best" else steady > worst
                activations, worst = torch.where(better, reached, activations), torch.where(better, steady, worst)
                images = torch.where(better[:, None, None, None], best, images)
        changes = (images - first).abs().amax(dim=(1, 2, 3))
        numbers = torch.stack((activations, starts, changes, worst), dim=1).tolist()
        pixels = images.permute(0, 2, 3, 1).float().cpu().numpy()
        history, finite = (-self.history).cpu().numpy(), self.finite.cpu()
        settings = self.plan.settings
        return [
            Render(
                neuron=target.name,
                image=pixels[index].copy(),
                history=history[index].copy(),
                activation=numbers[index][0],
                start=numbers[index][1],
                worst=numbers[index][3],
                settings=settings,
                problem=_problem(target, finite[index], history[index], *numbers[index][:3]),
                key=target.name if target.neuron is not None else target.sha256,
            )
            for index, target in enumerate(self.targets)
        ]

    def _judged(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Activations ``(N,)`` of images, and of the worst of their six views."""
        seen = self._seen(images).pixels
        views = [Views.of(view.unflatten(0, seen.shape[:2])) for view in six_views(seen.flatten(0, 1))]
        worst = torch.stack([-self._losses(view) for view in views]).amin(dim=0)
        return -self._losses(Views.of(seen)), worst

    def _seen(self, images: Tensor) -> Views:
        """What the model sees of finished images: the crops of the last step where there are any, or else the whole."""
        views = Views.of(images[:, None], self.plan.input_size)
        for number, stage in enumerate(self.stages):
            if stage.shows_parts:
                views = stage.apply(views, self.draws.at(self.plan.steps - 1, number + 1))
        return views


def _problem(
    target: Target, finite: Tensor, history: NDArray[np.float32], activation: float, start: float, change: float
) -> str | None:
    """What is wrong with a finished render, in words: what was measured, and no more."""
    steps = "1 step" if len(history) == 1 else f"{len(history)} steps"
    if missing := int((~finite).sum()):
        first = int(finite.int().argmin()) + 1
        return f"the loss or its gradient was not finite in {missing} of {steps}, first in step {first}"
    if target.neuron is not None and activation == start and np.all(history == start):
        return f"dead: the activation stayed at exactly {start + 0.0:.3g} throughout {steps}"
    if change < 0.5 / 255:
        return f"the image never changed: after {steps} it is the random one of the start"
    if not activation > start:
        return f"not excited: after {steps} the activation is {activation:.3g}, not above its start, {start:.3g}"
    if target.neuron is not None and activation <= 0:
        # GELU is negative below zero and rises towards zero: what silences a neuron can look like progress.
        return f"silenced, or not yet excited: after {steps} the activation is {activation:.3g}, from {start:.3g}"
    return None


def copies_of(plan: RenderPlan, size: Size | None = None) -> int:
    """Number of views that a plan's recipe makes of each image."""
    draws = Draws([stream_key(0, "")], 1, torch.device("cpu"))
    views = Views.of(torch.zeros(1, 1, 3, *(size or plan.size)), plan.input_size)
    for number, stage in enumerate(stages(plan.recipe.transforms)):
        views = stage.apply(views, draws.at(0, number + 1))
    return views.copies
