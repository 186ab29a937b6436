"""One site of each family, found and computed without the package: what Captum's answers are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from families import SIX_FAMILIES
from torch import Tensor, nn

import captum_vit

TARGET = 1  # the class whose score is attributed
NEURON = (3, 1, 2)  # Captum's selector at a probe: unit, row, column


@dataclass(frozen=True)
class Place:
    """Where a site is in the model, in the model's own words; ``call`` counts the runs of a shared module."""

    site: str
    reads: str
    prefix_tokens: int
    grid: tuple[int, int]
    units: int
    call: int = 0


PLACES = {
    "deit": Place("blocks.1", "blocks.1.mlp.fc2", 1, (4, 4), 96),
    # The shared MLP runs for scale 2, then 3, then 4.
    "coat": Place("parallel_blocks.0.mlp3", "parallel_blocks.0.mlp3.fc2", 1, (4, 4), 96, call=1),
    "convit": Place("blocks.1", "blocks.1.mlp.fc2", 0, (4, 4), 96),
    "pit": Place("transformers.1.blocks.0", "transformers.1.blocks.0.mlp.fc2", 1, (4, 4), 96),
    "swin": Place("layers.1.blocks.1", "layers.1.blocks.1.mlp.fc2", 0, (6, 6), 192),
    "twins": Place("blocks.1.0", "blocks.1.0.mlp.fc2", 0, (8, 8), 64),
}


def build(family: str, **changes: object) -> nn.Module:
    """A small model in double precision, whose every weight is moved away from timm's initial values.

    timm starts with biases of zero, so a black image gives tokens without any variance. LayerNorm's gradient there
    is 300 times that of its surroundings at every layer (1e27 in Twins), and no integral over it converges.
    """
    model = SIX_FAMILIES[family].build(**changes).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


@dataclass
class Case:
    """An adapted model and two images, with a plain model of the same weights beside it."""

    family: str
    place: Place = field(init=False)
    plain: nn.Module = field(init=False)
    vit: captum_vit.AdaptedModel = field(init=False)
    image_size: tuple[int, int] = field(init=False)
    images: Tensor = field(init=False)
    baselines: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.place = PLACES[self.family]
        self.plain = build(self.family)
        self.vit = captum_vit.adapt(build(self.family))
        self.image_size = SIX_FAMILIES[self.family].image_size
        generator = torch.Generator().manual_seed(2)
        self.images, self.baselines = torch.randn(2, 2, 3, *self.image_size, generator=generator, dtype=torch.double)

    @property
    def layer(self) -> nn.Module:
        return self.vit.layer(self.place.site)

    @property
    def neuron(self) -> captum_vit.neuron.Neuron:
        unit, row, column = NEURON
        return self.vit.neuron(f"{self.place.site}:{unit}", patch=(row, column))

    @property
    def unit_mask(self) -> Tensor:
        """Captum's ``layer_mask`` with one feature a unit."""
        return torch.arange(self.place.units)[None, :, None, None]

    @property
    def patch_mask(self) -> Tensor:
        """Captum's ``feature_mask`` with one feature a patch."""
        return self.vit.site(self.place.site).feature_mask(self.image_size)

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the plain model, and the tokens that its second linear layer reads at the site."""
        read: list[Tensor] = []
        reads = self.plain.get_submodule(self.place.reads)
        hook = reads.register_forward_pre_hook(lambda module, args: read.append(args[0]))
        try:
            output = self.plain(images)
        finally:
            hook.remove()
        return output, read[self.place.call]

    def as_map(self, tokens: Tensor) -> Tensor:
        """Tokens ``(B, N, units)`` without prefix, as ``(B, units, rows, columns)``."""
        patches = tokens[:, self.place.prefix_tokens :]
        return patches.transpose(1, 2).reshape(len(tokens), self.place.units, *self.place.grid)

    def activation(self, images: Tensor) -> Tensor:
        """The site's map ``(B, units, rows, columns)``."""
        return self.as_map(self.tokens(images)[1])

    def neuron_activation(self, images: Tensor) -> Tensor:
        """Activation ``(B,)`` of the neuron."""
        unit, row, column = NEURON
        return self.activation(images)[:, unit, row, column]

    def score(self, images: Tensor) -> Tensor:
        """The target's score ``(B,)``."""
        return self.plain(images)[:, TARGET]

    def score_given(self, images: Tensor, patch_map: Tensor) -> Tensor:
        """The target's score if the site's patch tokens were ``patch_map`` and all else came from ``images``."""
        calls = iter(range(3))

        def replace(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if next(calls) != self.place.call:
                return None
            prefix = args[0][:, : self.place.prefix_tokens]
            return (torch.cat([prefix, patch_map.flatten(2).transpose(1, 2)], dim=1),)

        hook = self.plain.get_submodule(self.place.reads).register_forward_pre_hook(replace)
        try:
            return self.score(images)
        finally:
            hook.remove()

    def score_gradient(self, images: Tensor) -> Tensor:
        """Gradient of the target's score with respect to the site's map."""
        output, tokens = self.tokens(images)
        return self.as_map(torch.autograd.grad(output[:, TARGET].sum(), tokens)[0])

    def neuron_gradient(self, images: Tensor) -> Tensor:
        """Gradient of the neuron's activation with respect to the images."""
        return gradient(self.neuron_activation, images)

    def path(self, alpha: float) -> Tensor:
        """The images at ``alpha`` of the straight way from the baselines."""
        return self.baselines + alpha * (self.images - self.baselines)


def without_softmax_modules(case: Case) -> Case:
    """The same case with attention that is one fused function.

    Swin's softmax is a module by default, and Captum's DeepLift rule for such modules centres its gradients over the
    whole batch, so that an image's attributions depend on the other images. The other families have no such module.
    """
    fused = Case(case.family)
    for module in (*fused.vit.modules(), *fused.plain.modules()):
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    return fused


def seed() -> None:
    """Captum draws from NumPy's generator as well as from PyTorch's."""
    torch.manual_seed(0)
    np.random.seed(0)


def gradient(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Gradient of ``function(inputs).sum()``."""
    inputs = inputs.detach().requires_grad_()
    return torch.autograd.grad(function(inputs).sum(), inputs)[0]


def gauss_legendre(points: int) -> list[tuple[float, float]]:
    """Positions in [0, 1] and weights of the quadrature that Captum integrates with."""
    positions, weights = np.polynomial.legendre.leggauss(points)
    return list(zip((1 + positions) / 2, weights / 2, strict=True))


def per_image(attributions: Tensor) -> Tensor:
    """Sum of the attributions of each image."""
    return attributions.flatten(1).sum(1)
