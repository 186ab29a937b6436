"""The recipes that come with the package, and how one is found by its name."""

from __future__ import annotations

from captum_vit.checks import shortly
from captum_vit.errors import RecipeError
from captum_vit.optvis.canvas import Times
from captum_vit.optvis.optimizers import Adam, NAdam
from captum_vit.optvis.parametrizations import Fourier, Phases, Pixels
from captum_vit.optvis.penalties import TotalVariation
from captum_vit.optvis.recipe import Recipe
from captum_vit.optvis.transforms import (
    LUCENTS_STANDARD,
    CircularShift,
    ColorShift,
    Ensemble,
    GaussianNoise,
    PixelNoise,
    RandomCrops,
    RelativeShift,
    ShiftByDepth,
)
from captum_vit.probes.plugins import registry

# What every entry renders by when nothing is said: the best that was measured (docs/render-quality.md).
DEFAULT_RECIPE = "steady"

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "ghiasi2022",
            parametrization=Pixels(),
            # In the order of the authors' published code.
            transforms=(Ensemble(8), ColorShift(mean=1.0, log_std=1.0), GaussianNoise(std=0.5), CircularShift(32)),
            penalty=TotalVariation(0.0005),
            optimizer=Adam(lr=0.1, betas=(0.5, 0.99)),
            schedule="cosine",
            steps=400,
            source="Ghiasi et al. 2022, arXiv 2212.06727, and their published code",
        ),
        Recipe(
            "fourier",
            parametrization=Fourier(decay=1.3),
            # Shifts alone: they keep the whole image in sight, which matters in small images.
            transforms=(RelativeShift(1 / 8),),
            penalty=TotalVariation(0.002),
            optimizer=Adam(lr=0.05),
            schedule="cosine",
            steps=256,
            source="captum-vit: Lucent's parametrization with the shifts and the total variation of Ghiasi et al. 2022",
        ),
        Recipe(
            "steady",
            parametrization=Fourier(decay=1.3),
            transforms=(ShiftByDepth(first=1 / 8, last=1 / 4),),
            penalty=TotalVariation(0.002),
            # Shorter memories than Adam's own, twice the rate: early neurons, of fine textures, get there in 256 steps.
            optimizer=Adam(lr=0.1, betas=(0.5, 0.99)),
            schedule="cosine",
            steps=256,
            redirect=0.5,
            finish="steadiest",
            source="captum-vit: fourier, with the redirected gradients of Lucid (Olah et al. 2017) and Adam's betas "
            "of Ghiasi et al. 2022",
        ),
        Recipe(
            "lucent",
            parametrization=Fourier(),
            transforms=LUCENTS_STANDARD,
            optimizer=Adam(lr=0.05),
            steps=512,
            source="torch-lucent 0.1.8; Olah et al. 2017, doi 10.23915/distill.00007",
        ),
        Recipe(
            "maco",
            parametrization=Phases(spread=1.0),
            # 1280 pixels for a model that sees 224; crops of 0.25 to 0.3 of that, all as likely (of that deviation);
            # and noise of 0.05, normal and uniform, of values that span 5.
            canvas=Times(40 / 7),
            transforms=(RandomCrops(crops=6, sides=(0.275, 0.275), spread=0.0144), PixelNoise(std=0.0104)),
            optimizer=NAdam(lr=1.0),
            steps=1000,
            source="Fel et al. 2023, arXiv 2306.06805, and the authors' published code for PyTorch, Horama",
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
    if not isinstance(recipe, str) or recipe not in known:
        raise RecipeError(f"no recipe {shortly(recipe)}; there are {', '.join(known)}")
    return known[recipe]
