"""The declaration of how an image is optimized, which the render loop carries out: data, and nothing but data."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from captum_vit.errors import PlanError, PluginError, RecipeError
from captum_vit.optvis.canvas import Canvas, canvas_pixels
from captum_vit.optvis.optimizers import Optimizer
from captum_vit.optvis.parametrizations import Parametrization
from captum_vit.optvis.penalties import Penalty
from captum_vit.optvis.transforms import Foreign, Transform
from captum_vit.probes.hookspecs import Offered, captum_vit_recipes
from captum_vit.storage.fingerprint import content_sha256


@dataclass(frozen=True)
class Recipe(Offered):
    """How to optimize an image.

    Two recipes are equal if all that is in them is, and then have the same :attr:`sha256`, in any process.

    Attributes
    ----------
    name
        What ``render(..., recipe=name)`` calls it.
    parametrization
        How the image is written as parameters.
    transforms
        The transforms that each step applies to the images, in order; see :mod:`captum_vit.optvis.transforms`. Any
        other function from images ``(B, 3, H, W)`` to images will do, such as Lucent's and torchvision's; it is then
        applied to each neuron's images by themselves, inside a random stream of their own.
    optimizer
        What moves the parameters; see :mod:`captum_vit.optvis.optimizers`.
    steps
        Number of steps.
    source
        Where the recipe comes from.
    penalty
        What is added to the loss: a :class:`captum_vit.optvis.penalties.Penalty`, or a function from the transformed
        images ``(N, copies, 3, H, W)``, before normalization, to one number for each neuron, ``(N,)``.
    schedule
        The learning rate over the steps: as it is, or falling to zero along half a cosine.
    finish
        The finished image: the last one; of the last and the best so far the one with the larger activation
        (``"best"``), or the one whose worst of six views (shifts, zooms) excites more (``"steadiest"``).
    redirect
        Share of the steps, from the first on, in which the gradient of a neuron that is silent everywhere in its image
        passes by the activation function; see :class:`captum_vit.probes.redirect.Redirect`.
    contenders
        Recipes that share the steps; of the images that they make, the one is taken whose worst of six views excites
        most. The fields of this one then say nothing but its name, steps, source and canvas.
    canvas
        Size of the images where that is not what the model sees: a side in pixels, (height, width), or
        :class:`~captum_vit.optvis.canvas.Times` that. The model sees crops of it, by the transform
        :class:`~captum_vit.optvis.transforms.RandomCrops`; without one the whole, resized.

    Raises
    ------
    RecipeError
        A field holds something else.
    """

    hook = captum_vit_recipes.__name__

    name: str
    parametrization: Parametrization
    transforms: tuple[Transform | Foreign, ...]
    optimizer: Optimizer
    steps: int
    source: str
    penalty: Penalty | Callable[[Tensor], Tensor] | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    finish: Literal["last", "best", "steadiest"] = "last"
    redirect: float = 0.0
    contenders: tuple[Recipe, ...] = ()
    canvas: Canvas | None = None

    def __post_init__(self) -> None:
        if isinstance(self.transforms, list):
            object.__setattr__(self, "transforms", tuple(self.transforms))
        if isinstance(self.canvas, list):
            object.__setattr__(self, "canvas", tuple(self.canvas))
        if not isinstance(self.transforms, tuple) or not all(map(callable, self.transforms)):
            raise RecipeError(
                f'recipe "{self.name}": transforms should be a tuple of transforms, such as (RelativeShift(0.125),); '
                f"they are {self.transforms!r}"
            )
        if not isinstance(self.optimizer, Optimizer):
            raise RecipeError(
                f'recipe "{self.name}": optimizer should be data, such as Adam(lr=0.05) or '
                f'TorchOptimizer(torch.optim.SGD, {{"lr": 1.0}}) of captum_vit.optvis.optimizers; it is '
                f"{self.optimizer!r}"
            )
        for field, choices in (("schedule", ("constant", "cosine")), ("finish", ("last", "best", "steadiest"))):
            if getattr(self, field) not in choices:
                raise RecipeError(
                    f'recipe "{self.name}": {field} should be {" or ".join(choices)}; it is {getattr(self, field)!r}'
                )

        if not 0 <= self.redirect <= 1:
            raise RecipeError(f'recipe "{self.name}": redirect should be a share of the steps; it is {self.redirect!r}')
        if self.canvas is not None:
            try:
                canvas_pixels(self.canvas, (1, 1))
            except PlanError as error:
                raise RecipeError(f'recipe "{self.name}": {error}') from None

    @property
    def sha256(self) -> str:
        """Checksum of all that is in the recipe, in hexadecimal.

        Raises
        ------
        DescriptionError
            A foreign transform or penalty has no content that could be compared, such as a network with hooks.
        """
        return content_sha256(self)

    def rate(self, step: int, steps: int) -> float:
        """Factor of the learning rate at a step of so many."""
        return 1.0 if self.schedule == "constant" else (1 + math.cos(math.pi * step / steps)) / 2

    def check(self) -> None:
        """Make sure that other processes can have it, too."""
        try:
            same = pickle.loads(pickle.dumps(self)) == self
        except Exception as error:  # pickle raises whatever the objects in it raise
            raise PluginError(f'recipe "{self.name}" cannot be pickled ({error}); make it of data') from error
        if not same:
            raise PluginError(f'recipe "{self.name}" does not equal its own copy; make it of data that compares')
