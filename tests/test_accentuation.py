"""Renders that start from a photo: nearly that photo at first, and never without saying so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import SIX_FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import CAT, SIX_PHOTOS
from PIL import Image
from typer.testing import CliRunner

import captum_vit
from captum_vit.cards.card import accentuated, assemble, rank_photos
from captum_vit.cards.figure import draw_card
from captum_vit.cards.page import page_of
from captum_vit.cards.photos import most_activating
from captum_vit.cli import app
from captum_vit.errors import PlanError
from captum_vit.optvis.folder import render_into
from captum_vit.optvis.optimizers import Adam
from captum_vit.optvis.parametrizations import Fourier, Phases, Pixels
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.recipes import find_recipe
from captum_vit.optvis.results import Render

STILL = replace(find_recipe("fourier"), name="still", optimizer=Adam(lr=1e-9), penalty=None)


@pytest.fixture(scope="module")
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


@settings(deadline=None, max_examples=30)
@given(height=st.integers(2, 40), width=st.integers(2, 40), seed=st.integers(0, 99))
def test_what_is_encoded_is_decoded_again(height, width, seed):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.05
    for parametrization in (Pixels(), Fourier(), Fourier(decay=1.3)):
        decode = parametrization.decoder((height, width), torch.device("cpu"))
        torch.testing.assert_close(decode(parametrization.encode(images)), images, atol=2e-3, rtol=0)


def test_phases_keep_the_phases_of_a_photo():
    images = torch.rand(1, 3, 16, 24) * 0.9 + 0.05
    parametrization = Phases()
    phases = parametrization.encode(images)
    again = parametrization.encode(parametrization.decoder((16, 24), torch.device("cpu"))(phases))
    turned = torch.remainder(again - phases + torch.pi, 2 * torch.pi) - torch.pi
    assert turned.abs().median() < 0.05


def test_a_render_starts_from_the_middle_of_the_photo(vit):
    (render,) = captum_vit.render(vit, "blocks.1:3", recipe=STILL, steps=1, start=CAT, progress=False)
    photo = Image.open(CAT).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    expected = photo.resize((32, 32), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    difference = np.abs(render.image - np.asarray(expected) / 255)
    assert difference.mean() < 0.02
    assert render.started_from == "cat.jpg"


def test_where_it_started_is_part_of_the_plan_and_of_what_is_kept(vit, tmp_path):
    plan = RenderPlan.of(vit, recipe="fourier", steps=2, start=CAT)
    random = RenderPlan.of(vit, recipe="fourier", steps=2)
    assert plan != random
    assert not plan.repeats(random.settings)
    assert random.starting_from(CAT) == plan
    (made,) = render_into(tmp_path, vit, "blocks.1:3", plan, progress=False)
    assert Render.load(made.save(tmp_path)).started_from == "cat.jpg"
    (again,) = render_into(tmp_path, vit, "blocks.1:3", random, progress=False)
    assert again.started_from is None


@pytest.mark.parametrize("start", ["nowhere.jpg", Path("."), 3])
def test_a_photo_that_cannot_be_read_is_refused(vit, start):
    with pytest.raises(PlanError, match=r"start is .* give the path of a photo"):
        RenderPlan.of(vit, start=start)


def test_a_neuron_that_no_random_start_excites_is_accentuated_from_its_strongest_photo_and_every_card_says_so(vit):
    plan = RenderPlan.of(vit, recipe="fourier", steps=4)
    neurons = [f"{site.name}:{unit}" for site in vit.sites for unit in range(6)]
    top = rank_photos(vit, neurons, SIX_PHOTOS, k=2, progress=False)
    best = most_activating(vit, neurons, top, k=2, progress=False)
    renders = captum_vit.render(vit, neurons, plan=plan, progress=False)
    silenced = replace(renders, renders=tuple(replace(render, problem="silenced") for render in renders))
    assert (
        accentuated(vit, replace(renders, renders=tuple(replace(r, problem=None) for r in renders)), best, plan)[
            0
        ].started_from
        is None
    )
    made = accentuated(vit, silenced, best, plan)
    from_photos = [(render, photos) for render, photos in zip(made, best, strict=True) if render.started_from]
    assert from_photos
    for render, photos in from_photos:
        assert render.started_from == photos[0].path.name
        assert render.problem is None
    for card in assemble(made, best, top, "tiny", [None] * len(made)):
        words = [text.get_text() for text in draw_card(card).texts] + [
            text.get_text() for axes in draw_card(card).axes for text in axes.texts
        ]
        told = f"Accentuated from {card.optimized.started_from}"
        assert any(told in word for word in words) == bool(card.optimized.started_from)
        assert (told in page_of([card])) == bool(card.optimized.started_from)


def test_the_command_starts_from_a_photo(tmp_path, folder):
    made = CliRunner().invoke(
        app,
        ["render", "deit_micro", "blocks.1:3", "--steps", "1", "--start", str(CAT), "--out", str(tmp_path / "made")],
    )
    assert made.exit_code == 0, made.output
    assert Render.load(tmp_path / "made" / "blocks.1-3.png").started_from == "cat.jpg"
