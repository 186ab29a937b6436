"""Recipes and plans: data that is compared by content, goes to other processes, and is kept with every result."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from families import SIX_FAMILIES
from lucent.optvis import transform as lucents

import captum_vit
from captum_vit import Recipe
from captum_vit.errors import DescriptionError, PlanError, RecipeError
from captum_vit.optvis.canvas import Times
from captum_vit.optvis.folder import render_into
from captum_vit.optvis.optimizers import Adam
from captum_vit.optvis.parametrizations import Fourier, Phases
from captum_vit.optvis.penalties import TotalVariation
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.recipes import DEFAULT_RECIPE, RECIPES
from captum_vit.optvis.transforms import CircularShift, Ensemble, GaussianNoise, RelativeShift
from captum_vit.storage.fingerprint import content_sha256

BASE = RECIPES["ghiasi2022"]
CHANGES = {
    "name": "another",
    "parametrization": Fourier(),
    "transforms": (Ensemble(8), CircularShift(31)),
    "optimizer": Adam(lr=0.1, betas=(0.5, 0.98)),
    "steps": 401,
    "source": "elsewhere",
    "penalty": TotalVariation(0.0006),
    "schedule": "constant",
    "finish": "best",
    "redirect": 0.5,
    "contenders": (RECIPES["fourier"], RECIPES["maco"]),
    "canvas": 512,
}


@pytest.fixture
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_frozen_data_that_equals_its_copies(name):
    recipe = RECIPES[name]
    copy = pickle.loads(pickle.dumps(recipe))
    assert copy == recipe
    assert copy.sha256 == recipe.sha256
    assert copy is not recipe
    with pytest.raises(AttributeError):
        recipe.steps = 3
    assert len({each.sha256 for each in RECIPES.values()}) == len(RECIPES)


def test_a_recipe_has_the_same_digest_in_another_process():
    program = "from captum_vit.recipes import RECIPES; print(*(r.sha256 for r in RECIPES.values()))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [recipe.sha256 for recipe in RECIPES.values()]


@pytest.mark.parametrize("field", [field.name for field in fields(Recipe)])
def test_every_field_of_a_recipe_is_part_of_its_identity(field):
    changed = replace(BASE, **{field: CHANGES[field]})
    assert changed != BASE
    assert changed.sha256 != BASE.sha256


def closure(width):
    return lambda images: images[..., width:]


def scaled_by(factor=2.0):
    def transform(images, factor=factor):
        return images * factor

    return transform


class Blur:
    def __init__(self, sigma):
        self.sigma = sigma

    def __call__(self, images):
        return images * self.sigma


@dataclass(frozen=True)
class Weighted:
    weight: torch.Tensor

    def __call__(self, images):
        return images * self.weight


@pytest.mark.parametrize(
    ("make", "one", "other"),
    [(closure, 1, 2), (scaled_by, 2.0, 3.0), (Blur, 1, 2), (lucents.jitter, 4, 8), (lucents.pad, 2, 3),
     (lambda value: Weighted(torch.tensor([value])), 1.0, 2.0), (lambda value: torch.nn.Dropout(value), 0.1, 0.2)],
)  # fmt: skip
def test_foreign_transforms_are_told_apart_by_what_is_in_them(make, one, other):
    first, again, second = (replace(BASE, transforms=(make(value),)).sha256 for value in (one, one, other))
    assert first == again
    assert first != second


def test_functions_of_one_name_and_different_code_differ():
    def transform(images):
        return images + 1

    first = content_sha256(transform)

    def transform(images):
        return images + 2

    assert content_sha256(transform) != first


def test_photos_of_a_recipe_are_compared_by_content(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(name.replace("c", "a").encode())
    digests = {name: content_sha256(Phases((tmp_path / f"{name}.jpg",))) for name in ("a", "b", "c")}
    assert digests["a"] == digests["c"] != digests["b"]


def test_what_has_no_content_is_told():
    for value in (iter([1]), threading.Lock(), closure(iter([1]))):
        with pytest.raises(DescriptionError, match="no content that could be compared"):
            content_sha256(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transforms": lambda steps: ()}, "transforms should be a tuple of transforms"),
        ({"optimizer": torch.optim.Adam}, r"optimizer should be data, such as Adam\(lr=0.05\)"),
        ({"schedule": "linear"}, "schedule should be constant or cosine"),
        ({"finish": "first"}, "finish should be last or best or steadiest"),
        ({"canvas": -1}, 'recipe "ghiasi2022": canvas is -1; give a side in pixels'),
        ({"canvas": Times(0)}, r"canvas is Times\(0\); give a factor above 0, such as Times\(2\)"),
        ({"redirect": 1.5}, "redirect should be a share of the steps; it is 1.5"),
    ],
)
def test_a_recipe_of_something_else_is_told_at_once(changes, message):
    with pytest.raises(RecipeError, match=message):
        replace(BASE, **changes)


# --- plans


def test_a_plan_resolves_what_was_not_said(vit):
    plan = RenderPlan.of(vit)
    assert plan.recipe == RECIPES[DEFAULT_RECIPE]
    assert (plan.steps, plan.size, plan.seed) == (256, (32, 32), 0)
    assert (plan.dtype, plan.device) == ("float32", "cpu")
    assert RenderPlan.of(vit, size=24).size == (24, 24)
    assert RenderPlan.of(vit, size=(24, 40)).input_size == (32, 32)
    assert RenderPlan.of(vit, dtype=torch.bfloat16) == RenderPlan.of(vit, dtype="bfloat16")
    assert RenderPlan.of(vit.to(torch.bfloat16)).dtype == "bfloat16"


def test_equal_plans_are_equal_and_every_difference_shows(vit):
    plan = RenderPlan.of(vit, origin={"name": "tiny"})
    assert plan == RenderPlan.of(vit, origin={"name": "tiny"})
    kept = json.loads(json.dumps(plan.settings))
    assert plan.repeats(kept)
    others = [
        RenderPlan.of(vit, origin={"name": "tiny"}, **change)
        for change in ({"steps": 3}, {"seed": 1}, {"size": 40}, {"dtype": "float16"}, {"recipe": "fourier"},
                       {"recipe": replace(BASE, penalty=TotalVariation(0.001))})
    ]  # fmt: skip
    others.append(RenderPlan.of(vit, origin={"name": "other"}))
    vit.model.head.bias.data[0] += 1e-3
    others.append(RenderPlan.of(vit, origin={"name": "tiny"}))
    assert all(other != plan and not other.repeats(kept) for other in others)


def test_a_result_carries_the_whole_plan(vit, tmp_path):
    plan = RenderPlan.of(vit, recipe="fourier", steps=2, seed=5, dtype="bfloat16")
    (render,) = captum_vit.render(vit, "blocks.1:7", plan=plan, progress=False)
    assert plan.repeats(render.settings)
    render.save(tmp_path)
    record = json.loads((tmp_path / "blocks.1-7.json").read_text())
    assert plan.repeats(record["settings"])
    assert record["settings"]["recipe_content"]["parametrization"]["decay"] == 1.3


def test_a_recipe_of_the_same_name_with_another_content_renders_anew(vit, tmp_path):
    mine = replace(RECIPES["fourier"], name="mine", steps=2)
    render_into(tmp_path, vit, ["blocks.1:7"], RenderPlan.of(vit, recipe=mine), progress=False)
    before = (tmp_path / "blocks.1-7.json").read_text()
    render_into(tmp_path, vit, ["blocks.1:7"], RenderPlan.of(vit, recipe=mine), progress=False)
    assert (tmp_path / "blocks.1-7.json").read_text() == before
    other = replace(mine, transforms=(RelativeShift(0.2),))
    (made,) = render_into(tmp_path, vit, ["blocks.1:7"], RenderPlan.of(vit, recipe=other), progress=False)
    assert made.settings["recipe_sha256"] == other.sha256
    assert (tmp_path / "blocks.1-7.json").read_text() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; give at least 1"),
        ({"steps": -1}, "steps is -1"),
        ({"size": 0}, "size is 0"),
        ({"size": (3, 4, 5)}, r"size is \(3, 4, 5\)"),
        ({"canvas": 0}, "canvas is 0"),
        ({"canvas": "big"}, 'canvas is "big"; give a side in pixels, or'),
        ({"canvas": Times(float("nan"))}, "give a factor above 0"),
        (
            {"canvas": 64, "size": 40},
            "size is 40x40 beside a canvas in pixels, and this model sees images of 32x32 only",
        ),
        ({"dtype": "int8"}, 'no dtype "int8" to render in; use float32, bfloat16, float16'),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_that_mean_nothing_are_told(vit, settings, message):
    with pytest.raises(PlanError, match=message):
        captum_vit.render(vit, "blocks.1:7", progress=False, **settings)


def test_settings_beside_a_plan_are_told(vit):
    with pytest.raises(PlanError, match="leave seed out"):
        captum_vit.render(vit, "blocks.1:7", plan=RenderPlan.of(vit, steps=2), seed=3, progress=False)


# --- what recipes do


def test_noise_of_a_recipe_fades_over_the_steps_of_the_plan(vit):
    still = replace(BASE, transforms=(GaussianNoise(std=0.5),), penalty=None, optimizer=Adam(lr=1e-9))
    (render,) = captum_vit.render(vit, "blocks.0:7", recipe=still, steps=120, progress=False)
    early, late = render.history[:30].std(), render.history[-30:].std()
    assert 0 < late < early / 3


def test_finish_best_is_never_worse_than_the_last_image(vit):
    """Under a penalty that flattens whatever excites the neuron, the last image is seldom the best."""
    wild = replace(BASE, transforms=(), penalty=TotalVariation(100.0))
    neurons = [f"blocks.1:{unit}" for unit in range(8)]
    last, best = (
        captum_vit.render(vit, neurons, recipe=replace(wild, finish=finish), steps=9, progress=False)
        for finish in ("last", "best")
    )
    assert (best.activations >= last.activations).all()
    assert (best.activations > last.activations).any()
    for render in best:
        assert render.activation >= render.history.max() - 1e-5
        image = torch.from_numpy(render.image).permute(2, 0, 1)[None]
        found = vit.neuron(render.neuron)(vit.preprocessing.normalize(image)).item()
        assert render.activation == pytest.approx(found, abs=1e-5)


def test_a_penalty_may_be_a_function_of_all_views(vit):
    seen = []

    def darkness(views):
        seen.append(tuple(views.shape))
        return 100 * views.mean(dim=(1, 2, 3, 4))

    dark = replace(BASE, transforms=(Ensemble(2),), penalty=darkness)
    renders = captum_vit.render(vit, ["blocks.1:7", "blocks.1:8", "blocks.1:9"], recipe=dark, steps=12, progress=False)
    assert set(seen) == {(3, 2, 3, 32, 32)}
    assert renders.images.mean() < 0.2


def test_foreign_transforms_work_in_a_recipe_and_leave_neurons_apart(vit):
    mixed = replace(BASE, transforms=(Ensemble(2), lucents.jitter(4), *lucents.standard_transforms, RelativeShift(0.1)))
    together = captum_vit.render(vit, ["blocks.1:7", "blocks.2:3"], recipe=mixed, steps=3, progress=False)
    alone = captum_vit.render(vit, "blocks.2:3", recipe=mixed, steps=3, progress=False)
    assert abs(together.images[1] - alone.images[0]).max() < 1e-4
    assert np.isfinite(together.images).all()
