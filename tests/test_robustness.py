"""How finished images are judged and chosen: by the worst of six views, among what a recipe's contenders make."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import SIX_FAMILIES, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import captum_vit
from captum_vit.optvis.optimizers import Adam
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.recipe import Recipe
from captum_vit.optvis.recipes import find_recipe
from captum_vit.optvis.results import Render
from captum_vit.optvis.robustness import six_views

FOURIER = find_recipe("fourier")


def contest(*recipes: Recipe) -> Recipe:
    return replace(FOURIER, name="contest", contenders=recipes)


@pytest.fixture
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 40), width=st.integers(1, 40), count=st.integers(1, 3))
def test_there_are_six_views_of_the_images_size_and_within_their_values(height, width, count):
    images = torch.rand(count, 3, height, width)
    views = list(six_views(images))
    assert [view.shape for view in views] == 6 * [images.shape]
    for view in views:
        assert view.min() >= images.min() - 1e-5
        assert view.max() <= images.max() + 1e-5
    plain_images = torch.full((1, 3, height, width), 0.3)
    assert all(torch.allclose(view, plain_images) for view in six_views(plain_images))


def test_four_views_are_shifts_by_a_fifth_and_two_are_zooms_about_the_middle():
    ramp = torch.linspace(0, 1, 50)[None, None, :, None].expand(1, 3, 50, 50)
    down, up, right, left, closer, farther = (view[0, 0, :, 25] for view in six_views(ramp))
    column = ramp[0, 0, :, 0]
    assert torch.equal(down, column.roll(10))
    assert torch.equal(up, column.roll(-10))
    assert torch.equal(right, column)
    assert torch.equal(left, column)
    slope = column[1] - column[0]
    assert closer.diff()[10:40].mean() == pytest.approx(float(slope) / 1.25, rel=1e-2)
    assert farther.diff()[10:40].mean() == pytest.approx(float(slope) / 0.8, rel=1e-2)
    assert closer[25] == pytest.approx(float(column[25]), abs=0.02)
    assert farther[25] == pytest.approx(float(column[25]), abs=0.02)


@torch.no_grad()
def activations(vit, render: Render) -> tuple[float, float]:
    """Of a finished image and of its worst view, by a pass of one's own."""

    def of(image: Tensor) -> float:
        return float(vit.patch_map(vit.preprocessing.normalize(image), render.neuron).mean())

    image = torch.from_numpy(render.image).permute(2, 0, 1)[None]
    return of(image), min(map(of, six_views(image)))


@pytest.mark.parametrize("finish", ["last", "best", "steadiest"])
def test_the_worst_view_of_the_finished_image_is_told(vit, finish, tmp_path):
    recipe = replace(FOURIER, finish=finish)
    (render,) = captum_vit.render(vit, "blocks.1:3", recipe=recipe, steps=4, progress=False)
    assert (render.activation, render.worst) == pytest.approx(activations(vit, render), abs=1e-5)
    assert Render.load(render.save(tmp_path)).worst == render.worst


def test_the_steadiest_image_is_no_worse_at_its_worst_view_than_the_last(vit):
    neurons = [f"{site.name}:{unit}" for site in vit.sites for unit in range(4)]
    restless = replace(FOURIER, optimizer=Adam(lr=1.0), schedule="constant")
    last, steadiest = (
        captum_vit.render(vit, neurons, recipe=replace(restless, finish=finish), steps=8, progress=False)
        for finish in ("last", "steadiest")
    )
    worst = [(a.worst, b.worst) for a, b in zip(last, steadiest, strict=True)]
    assert all(b >= a for a, b in worst)
    assert any(b > a for a, b in worst)


def test_of_contenders_the_one_that_holds_best_at_its_worst_view_is_taken(vit, tmp_path):
    rivals = (replace(FOURIER, name="without"), replace(FOURIER, name="with", redirect=1.0))
    neurons = [f"{site.name}:{unit}" for site in vit.sites for unit in range(4)]
    chosen = captum_vit.render(vit, neurons, recipe=contest(*rivals), steps=9, progress=False)
    apart = [
        captum_vit.render(vit, neurons, recipe=rival, steps=steps, progress=False)
        for rival, steps in zip(rivals, (5, 4), strict=True)
    ]
    for number, render in enumerate(chosen):
        candidates = {rival.name: made[number] for rival, made in zip(rivals, apart, strict=True)}
        best = candidates[render.made_by]
        assert (render.image == best.image).all()
        assert all(best.worst >= other.worst for other in candidates.values() if other.problem is None) or best.problem
    assert {render.made_by for render in chosen} == {"without", "with"}
    assert all(render.settings["recipe"] == "contest" for render in chosen)
    assert Render.load(chosen[0].save(tmp_path)).made_by == chosen[0].made_by


@pytest.mark.parametrize(("steps", "shares"), [(9, [5, 4]), (2, [1, 1]), (1, [1])])
def test_contenders_share_the_steps(vit, steps, shares):
    plan = RenderPlan.of(vit, recipe=contest(FOURIER, find_recipe("maco")), steps=steps)
    assert [contender.steps for contender in plan.contenders] == shares
    told: list[int] = []
    captum_vit.render(vit, "blocks.1:3", plan=plan, progress=False, callback=lambda done, total: told.append(done))
    assert told == list(range(1, steps + 1))


def test_a_recipe_without_contenders_is_its_own_plan_and_made_by_itself():
    vit = captum_vit.adapt(plain().build())
    plan = RenderPlan.of(vit, recipe="fourier", steps=2)
    assert plan.contenders == (plan,)
    (render,) = captum_vit.render(vit, "blocks.1:3", plan=plan, progress=False)
    assert render.made_by is None
