"""The plan of a render: all that its images depend on but the neurons, resolved once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import torch

from captum_vit.checks import check_adapted, shortly, whole_number
from captum_vit.errors import DescriptionError, PlanError
from captum_vit.optvis.canvas import Canvas, Times, canvas_pixels, whole_pixels
from captum_vit.optvis.recipe import Recipe
from captum_vit.optvis.recipes import DEFAULT_RECIPE, find_recipe
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import Size
from captum_vit.storage.fingerprint import describe, weights_sha256
from captum_vit.storage.part import Part

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PlanSettings(TypedDict, total=False):
    """What a caller may say of a plan; see :meth:`RenderPlan.of`."""

    recipe: str | Recipe
    steps: int | None
    size: int | Size | None
    canvas: Canvas | None
    seed: int
    dtype: str | torch.dtype | None
    start: str | Path | None
    origin: Mapping[str, Any]


@dataclass(frozen=True)
class RenderPlan:
    """What a render is.

    Attributes
    ----------
    recipe
        How images are optimized.
    steps
        Number of steps.
    size
        (height, width) of the images in pixels: of the canvas, where there is one.
    input_size
        (height, width) of what the model sees: the images themselves, crops of them, or the images resized.
    seed
        Of the random numbers.
    dtype
        Number format of the forward pass: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    device
        Kind of device: ``"cpu"``, ``"cuda"`` ...
    start
        File and checksum of the photo from which images start; None: at random.
    model
        The model's class, the checksum of its weights, its preprocessing, and where it comes from.
    """

    recipe: Recipe
    steps: int
    size: Size
    input_size: Size
    seed: int
    dtype: str
    device: str
    model: Mapping[str, Any] = field(hash=False)
    start: tuple[str, str] | None = None

    @classmethod
    def of(
        cls,
        vit: AdaptedModel,
        *,
        recipe: str | Recipe = DEFAULT_RECIPE,
        steps: int | None = None,
        size: int | Size | None = None,
        canvas: Canvas | None = None,
        seed: int = 0,
        dtype: str | torch.dtype | None = None,
        start: str | Path | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> RenderPlan:
        """Resolve what was said, and what was not, for a model.

        Parameters
        ----------
        vit
            The adapted model, with its weights, on its device.
        recipe
            Name of a recipe, or a recipe; see :mod:`captum_vit.optvis.recipes`.
        steps
            Number of steps; the recipe's own when not given.
        size
            Side of the images in pixels, or (height, width); the model's input size when not given. A model that takes
            one size only sees the image resized to it.
        canvas
            Size of the images where that is not to be what the model sees: a side in pixels, (height, width), or
            :class:`~captum_vit.optvis.canvas.Times` ``size``; the recipe's own when not given, and ``size`` if it has
            none. ``size`` is then what the model sees: crops, in recipes that crop, or the whole resized with
            antialiasing. Activations, of the finished image and of its worst view too, are those of what it sees: the
            mean over the crops of the last step and their views, without noise, or that of the whole.
        seed
            Seed of the random numbers.
        dtype
            Number format of the forward pass, as torch's or by its name; the weights' own when not given. What needs
            more precision (normalization layers, the image, losses) keeps it.
        start
            A photo from which each image starts, its middle cropped to the size, instead of a random image:
            accentuation. What the photo shows is then no finding; results carry its name.
        origin
            What tells this model from others of its class, such as its name and weights; recorded.

        Raises
        ------
        RecipeError
            There is no such recipe.
        PlanError
            A number of steps, a size, a canvas, a dtype or a start means nothing.
        ChannelsError
            The model takes other channels than red, green and blue.
        """
        check_adapted(vit)
        vit.check_takes_photos()
        recipe = find_recipe(recipe)
        seen = vit.preprocessing.size if size is None else whole_pixels("size", size)
        painted = recipe.canvas if canvas is None else canvas
        input_size = seen if vit.preprocessing.any_size else vit.preprocessing.size
        if painted is not None and not isinstance(painted, Times) and seen != input_size:
            told, own = ("x".join(map(str, sides)) for sides in (seen, input_size))
            raise PlanError(
                f"size is {told} beside a canvas in pixels, and this model sees images of {own} only; leave size out"
            )
        return cls(
            recipe=recipe,
            steps=whole_number("steps", recipe.steps if steps is None else steps, error=PlanError),
            size=seen if painted is None else canvas_pixels(painted, seen),
            input_size=input_size,
            seed=whole_number("seed", seed, None, PlanError),
            dtype=_dtype_name(vit.dtype if dtype is None else dtype),
            device=vit.device.type,
            model={
                **_plain(origin or {}),
                "model": vit.model_name,
                "weights_sha256": weights_sha256(vit.model),
                "weights_dtype": str(vit.dtype).removeprefix("torch."),
                "mean": list(vit.preprocessing.mean),
                "std": list(vit.preprocessing.std),
            },
            start=None if start is None else _photo(start),
        )

    def starting_from(self, photo: str | Path) -> RenderPlan:
        """The same plan, with images that start from a photo.

        Raises
        ------
        PlanError
            It cannot be read.
        """
        return replace(self, start=_photo(photo))

    @cached_property
    def contenders(self) -> tuple[RenderPlan, ...]:
        """The plans that are carried out one after the other, which share the steps: this one, or the contenders'."""
        rivals = self.recipe.contenders
        if not rivals:
            return (self,)
        shares = [self.steps // len(rivals) + (number < self.steps % len(rivals)) for number in range(len(rivals))]
        return tuple(
            replace(self, recipe=rival, steps=steps) for rival, steps in zip(rivals, shares, strict=True) if steps
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The whole plan, and versions, in words and numbers that JSON holds; what two equal plans share."""
        try:
            sha256, content = self.recipe.sha256, describe(self.recipe)
        except DescriptionError as error:  # then no other run can be known to have had the same
            sha256, content = None, str(error)
        return {
            **self.model,
            "recipe": self.recipe.name,
            "recipe_sha256": sha256,
            "recipe_content": content,
            "source": self.recipe.source,
            "steps": self.steps,
            "size": list(self.size),
            "input_size": list(self.input_size),
            "seed": self.seed,
            "dtype": self.dtype,
            "device": self.device,
            **({} if self.start is None else {"start": list(self.start)}),
            "versions": {name: version(name) for name in ("captum-vit", "torch", "timm", "numpy")},
        }

    def repeats(self, settings: Mapping[str, Any]) -> bool:
        """Whether :attr:`settings` that were kept are those of this plan, in every detail."""
        return settings.get("recipe_sha256") is not None and dict(settings) == self.settings

    @property
    def weights_dtype(self) -> torch.dtype:
        """Number format in which the model takes its images."""
        dtype: torch.dtype = getattr(torch, self.model["weights_dtype"])
        return dtype

    @property
    def torch_dtype(self) -> torch.dtype:
        """:attr:`dtype` as PyTorch's."""
        return DTYPES[self.dtype]


def resolve(vit: AdaptedModel, plan: RenderPlan | None, otherwise: PlanSettings, settings: PlanSettings) -> RenderPlan:
    """A plan as it was given, or what settings make of it where none was.

    Parameters
    ----------
    vit
        The adapted model.
    plan
        The plan; None if there is none.
    otherwise
        Settings for what is not said.
    settings
        What is said.

    Raises
    ------
    RecipeError, PlanError
        As for :meth:`RenderPlan.of`; and there are settings beside a plan.
    """
    if plan is not None and not isinstance(plan, RenderPlan):
        raise PlanError(f'plan is {shortly(plan)}; give a RenderPlan, or settings such as recipe="fourier" instead')
    if plan is None:
        said: PlanSettings = {**otherwise, **settings}
        return RenderPlan.of(vit, **said)
    if settings:
        raise PlanError(f"a plan is resolved already; leave {', '.join(settings)} out, or put it into the plan")
    return plan


def _photo(path: str | Path) -> tuple[str, str]:
    """A photo's file and checksum."""
    try:
        return str(path), hashlib.sha256(Path(Part.of(path).file).read_bytes()).hexdigest()
    except (OSError, TypeError) as error:
        raise PlanError(f"start is {shortly(path)}, which cannot be read ({error}); give the path of a photo") from None


def _plain(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What an origin says as it comes back from a file."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(origin)))
    except (TypeError, ValueError) as error:
        raise PlanError(
            f'origin cannot be recorded ({error}); give texts and numbers by name, such as {{"name": "my model"}}'
        ) from error
    return plain


def _dtype_name(dtype: str | torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise PlanError(f'no dtype "{name}" to render in; use {", ".join(DTYPES)}')
    return name
