"""The recipes that come with the package, and how one is found by its name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from captum_vit.errors import RecipeError
from captum_vit.optvis import penalties, transforms
from captum_vit.optvis.parametrizations import Fourier, Phases, Pixels
from captum_vit.optvis.recipe import Recipe
from captum_vit.optvis.transforms import Transform
from captum_vit.probes.plugins import registry


def _cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def ghiasi2022(steps: int) -> Sequence[Transform]:
    """The augmentations of Ghiasi et al. (2022), in the order of their published code."""
    return (
        transforms.ensemble(8),
        transforms.color_shift(mean=1.0, log_std=1.0),
        transforms.gaussian_noise(std=0.5, steps=steps),
        transforms.circular_shift(pixels=32),
    )


def fourier(steps: int) -> Sequence[Transform]:
    """Shifts alone: they keep the whole image in sight, which matters in small images."""
    return (transforms.relative_shift(fraction=1 / 8),)


def lucent(steps: int) -> Sequence[Transform]:
    """Lucent's standard transforms: pad, jitter, scale, rotate, jitter."""
    from lucent.optvis import transform  # takes seconds to import

    return tuple(transform.standard_transforms)


def maco(steps: int) -> Sequence[Transform]:
    """Random crops and noise, as Fel et al. (2023) use them."""
    return (
        transforms.random_crops(crops=8, sides=(0.5, 0.05), steps=steps),
        transforms.pixel_noise(std=0.08),
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "ghiasi2022",
            parametrization=Pixels(),
            transforms=ghiasi2022,
            penalty=lambda images: 0.0005 * penalties.total_variation(images),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1, betas=(0.5, 0.99)),
            schedule=_cosine,
            steps=400,
            source="Ghiasi et al. 2022, arXiv 2212.06727, and their published code",
        ),
        Recipe(
            "fourier",
            parametrization=Fourier(decay=1.3),
            transforms=fourier,
            penalty=lambda images: 0.002 * penalties.total_variation(images),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05),
            schedule=_cosine,
            steps=256,
            source="captum-vit: Lucent's parametrization with the shifts and the total variation of Ghiasi et al. 2022",
        ),
        Recipe(
            "lucent",
            parametrization=Fourier(),
            transforms=lucent,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05),
            steps=512,
            source="torch-lucent 0.1.8; Olah et al. 2017, doi 10.23915/distill.00007",
        ),
        Recipe(
            "maco",
            parametrization=Phases(),
            transforms=maco,
            optimizer=lambda parameters: torch.optim.NAdam(parameters, lr=1.0),
            steps=256,
            source="Fel et al. 2023, arXiv 2306.06805",
        ),
    )
}


def find_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by its name, the package's own or a plugin's; a recipe is returned as it is.

    Raises
    ------
    RecipeError
        There is no recipe of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    offered = registry().offered[Recipe.hook]
    known = RECIPES | {each.name: each for each in offered if isinstance(each, Recipe)}
    if recipe not in known:
        raise RecipeError(f'no recipe "{recipe}"; there are {", ".join(known)}')
    return known[recipe]
