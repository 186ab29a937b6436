"""Relevance: how much of the model's own output a neuron contributes, patch by patch, at all sites in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_vit.errors import CaptumViTError, RankingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.recording import check_recorded, recording
from captum_vit.probes.twin import frozen_twin

RELEVANCE = "relevance"
PREFIX = f"{RELEVANCE}:"


class Target(NamedTuple):
    """One number of a model's output for each image.

    Attributes
    ----------
    name
        ``"top"``, ``"norm"``, ``"sum"`` or a number.
    of
        From an output ``(B, …)`` to numbers ``(B,)``.
    """

    name: str
    of: Callable[[Tensor], Tensor]


def find_target(vit: AdaptedModel, name: str) -> Target:
    """The number of a model's output that neurons contribute to.

    Parameters
    ----------
    vit
        The adapted model.
    name
        ``"top"``: the largest of each image's outputs, its top logit. A number: that output. ``"norm"``, ``"sum"``: the
        Euclidean norm or the sum of all, for models that give an embedding. Empty: ``"norm"`` of a model that says that
        it has no classifier (timm's with ``num_classes=0``, those adapted to give another output than ``"logits"``),
        ``"top"`` of the others.

    Raises
    ------
    RankingError
        It is none of these.
    """
    if not name:
        name = "norm" if _gives_embedding(vit) else "top"
    if name in TARGETS:
        return Target(name, TARGETS[name])
    if name.isdecimal():
        return Target(str(int(name)), lambda output: _output(output, int(name)))
    raise RankingError(f'no output "{name}" to be relevant to; give a number, {", ".join(TARGETS)}')


class RelevancePass:
    """Passes images through a model and back, and hands over each site's relevance: activation times gradient.

    That is Captum's ``LayerGradientXActivation`` at the site's probe, and what RelMax (Achtibat et al. 2023, "From
    attribution maps to human-understandable explanations through Concept Relevance Propagation", doi
    10.1038/s42256-023-00711-8) ranks images by, with the gradient as the attribution method.

    Parameters
    ----------
    vit
        The adapted model.
    sites
        Names of the sites.
    target
        The number that neurons contribute to.
    listener
        Gets each site's name and its relevance ``(B, units, rows, columns)``, single precision.
    """

    def __init__(
        self, vit: AdaptedModel, sites: Sequence[str], target: Target, listener: Callable[[str, Tensor], None]
    ) -> None:
        self._model = frozen_twin(vit)
        self._probes = {site: self._model.probe(site) for site in sites}
        self._target = target
        self._listener = listener

    def __call__(self, images: Tensor) -> None:
        """One pass forward and one back, of images ``(B, 3, H, W)``.

        Raises
        ------
        CaptumViTError
            The pass does not come to all sites, or no gradient comes back.
        RankingError
            The output is no tensor, or has no such number.
        """
        maps: dict[str, Tensor] = {}
        hooks = [probe.register_forward_hook(_Keep(site, maps)) for site, probe in self._probes.items()]
        try:
            with recording():
                output = self._model(images.detach().clone().requires_grad_())
                total = check_recorded(self._target.of(_one_tensor(output))).sum()
                if missed := ", ".join(self._probes.keys() - maps.keys()):
                    raise CaptumViTError(f"the forward pass of {self._model.model_name} did not come to {missed}")
                # Images do not see each other, so the gradient of the sum is that of each one's own number.
                gradients = torch.autograd.grad(total, list(maps.values()), allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        for site, gradient in zip(list(maps), gradients, strict=True):
            activation = maps.pop(site).detach().float()
            self._listener(site, torch.zeros_like(activation) if gradient is None else activation * gradient.float())


class _Keep:
    """Forward hook on a probe that keeps what passes it."""

    def __init__(self, site: str, maps: dict[str, Tensor]) -> None:
        self.site = site
        self.maps = maps

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.maps[self.site] = output


def _gives_embedding(vit: AdaptedModel) -> bool:
    return getattr(vit.model, "num_classes", None) == 0 or vit.takes not in (None, "logits")


def _one_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    raise RankingError(
        f"the model gives a {type(output).__name__}, and relevance is to one tensor of it; adapt the model with "
        'output= its name or number, such as "logits"'
    )


def _output(output: Tensor, index: int) -> Tensor:
    numbers = _numbers(output)
    if index >= numbers.shape[1]:
        raise RankingError(f"the model has no output {index}; it has 0 … {numbers.shape[1] - 1}")
    return numbers[:, index]


def _numbers(output: Tensor) -> Tensor:
    if output.ndim == 2:
        return output
    raise RankingError(
        f"the model's output has the shape {tuple(output.shape)}, and a top or a numbered one is of outputs "
        '(B, classes); rank by "relevance:norm" or "relevance:sum", which are of all of it'
    )


TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    # The maximum's gradient goes to one of several equal ones, as that of a chosen class does.
    "top": lambda output: _numbers(output).max(dim=1).values,
    "norm": lambda output: output.flatten(1).float().norm(dim=1),
    "sum": lambda output: output.flatten(1).float().sum(dim=1),
}
