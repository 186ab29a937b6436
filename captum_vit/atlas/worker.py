"""A worker: what a piece of an atlas is done with, wherever that is: the model, the plan of renders, the photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import torch

from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.naming.asked import Naming
from captum_vit.atlas.naming.clip import Clip
from captum_vit.atlas.reading import PhotoReader
from captum_vit.atlas.source import ModelSource
from captum_vit.errors import AtlasError
from captum_vit.optvis.plan import PlanSettings, RenderPlan
from captum_vit.optvis.recipe import Recipe
from captum_vit.probes.adapted import AdaptedModel

# Called with how much more of a piece's amount is done.
Advance: TypeAlias = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """What a worker is told; it goes to other processes and machines.

    Attributes
    ----------
    folder
        The atlas, with its manifest and list of images.
    source
        Which model.
    device
        Where it computes, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...
    places
        Where the images are.
    recipe
        How to render, in full: the manifest has its name and checksum.
    naming
        What to name neurons with, if they are to be named.
    """

    folder: Path
    source: ModelSource
    device: str
    places: tuple[Path, ...]
    recipe: str | Recipe
    naming: Naming | None = None


class Worker:
    """Holds what pieces are done with.

    Parameters
    ----------
    job
        What is to be done.
    vit
        The model, if it is there; built by the job's source otherwise.

    Raises
    ------
    AtlasError
        The model or the recipe is not the atlas'.
    """

    def __init__(self, job: Job, vit: AdaptedModel | None = None) -> None:
        self.job = job
        self.folder = job.folder
        self.manifest = Manifest.load(job.folder)
        self.vit = (job.source() if vit is None else vit).to(job.device)
        said: PlanSettings = {**self.manifest.said, "recipe": job.recipe, "origin": self.manifest.model["origin"]}
        self.plan = RenderPlan.of(self.vit, **said)
        for name, what in (("weights_sha256", "weights"), ("recipe_sha256", "recipe")):
            if self.plan.settings[name] != self.manifest.renders[name]:
                raise AtlasError(f"the atlas in {job.folder} is of other {what} than a worker finds; give the same")

    @cached_property
    def photos(self) -> PhotoReader:
        """What reads photos."""
        return PhotoReader(self.vit, self.job.places)

    @cached_property
    def clip(self) -> Clip:
        """What names neurons, where this worker computes."""
        naming = self.job.naming
        assert naming is not None
        return naming.clip if naming.device == self.job.device else replace(naming, device=self.job.device).clip


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Context in which torch computes with so many threads on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
