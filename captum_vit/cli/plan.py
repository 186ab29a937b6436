"""What the commands that render share: the options that say how, and the plan that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli import completion, words

if TYPE_CHECKING:
    from captum_vit.cli.model import ModelChoice
    from captum_vit.optvis.plan import RenderPlan
    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.probes.address import Address

RecipeName = Annotated[
    str,
    typer.Option(
        callback=words.recipe,
        autocompletion=completion.recipes,
        help="How to optimize: steady, fourier, lucent, maco, or the paper's ghiasi2022.",
    ),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of the optimization; the recipe's own when not given.")]
Size = Annotated[
    int | None,
    typer.Option(min=1, help="Side of the optimized images in pixels; the model's input size when not given."),
]
Canvas = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side of the images in pixels where the model is to see crops of them, or the whole resized; --size is "
        "then what it sees. The recipe's own when not given.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        callback=words.dtype,
        autocompletion=completion.dtypes,
        help=f"Numbers to optimize in: {', '.join(words.DTYPES[:-1])} or {words.DTYPES[-1]}; the model's own when not "
        "given.",
    ),
]


Start = Annotated[
    Path | None,
    typer.Option(
        "--start", help="Photo from which images start, instead of a random one: accentuation. Results carry its name."
    ),
]


@dataclass(frozen=True)
class PlanChoice:
    """How to render: what a command's options say."""

    recipe: str
    steps: int | None = None
    size: int | None = None
    dtype: str | None = None
    start: Path | None = None
    canvas: int | None = None

    def checked(self) -> PlanChoice:
        """The choice as it is, if there is such a recipe, among the plugins' too.

        Raises
        ------
        RecipeError
            There is none.
        """
        from captum_vit.optvis.recipes import find_recipe

        find_recipe(self.recipe)
        return self

    def plan(self, choice: ModelChoice, vit: AdaptedModel) -> RenderPlan:
        """The plan for a model, which records what the command calls it."""
        from captum_vit.optvis.plan import RenderPlan

        return RenderPlan.of(
            vit,
            recipe=self.recipe,
            steps=self.steps,
            size=self.size,
            canvas=self.canvas,
            seed=choice.seed,
            dtype=self.dtype,
            start=self.start,
            origin=choice.origin,
        )

    def foretell(
        self, vit: AdaptedModel, neurons: Sequence[Address], plan: RenderPlan, folder: Path | None, batch_size: int = 8
    ) -> None:
        """Say how long renders will take, if that is more than a minute; those in a folder are there already."""
        from captum_vit.optvis.folder import missing_in
        from captum_vit.optvis.timing import foretell_renders

        left = missing_in(folder, neurons, plan)
        foretell_renders(f"{len(left)} neurons to render", [(vit, left, plan)], batch_size)
