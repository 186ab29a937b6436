"""Rendering into a folder: choosing neurons, keeping what is finished, going on where it stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
from families import SIX_FAMILIES

import captum_vit
from captum_vit.errors import AddressError
from captum_vit.optvis.folder import render_into
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.results import Render
from captum_vit.probes.selection import select_neurons

SETTINGS = {"origin": {"name": "tiny"}, "steps": 2}


@pytest.fixture
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


def into(folder, vit, neurons, batch_size=8, **changes):
    return render_into(
        folder, vit, neurons, RenderPlan.of(vit, **(SETTINGS | changes)), batch_size=batch_size, progress=False
    )


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (["blocks.1:7"], ["blocks.1:7"]),
        (["blocks.1:2-4", "ffn_blocks_0:5"], ["blocks.1:2", "blocks.1:3", "blocks.1:4", "blocks.0:5"]),
        (["blocks.1:3", "blocks.1:2-4"], ["blocks.1:3", "blocks.1:2", "blocks.1:4"]),
        (["blocks.2:all"], [f"blocks.2:{unit}" for unit in range(96)]),
    ],
)
def test_neurons_are_chosen_in_words_each_once(vit, choices, expected):
    assert select_neurons(vit, choices) == expected


def test_random_choices_repeat_with_their_seed_and_differ_by_site(vit):
    def drawn(site, seed=0):
        addresses = select_neurons(vit, [f"{site}:random:16"], seed)
        return [address.unit for address in addresses]

    assert drawn("blocks.1") == drawn("blocks.1")
    assert len(set(drawn("blocks.1"))) == 16
    assert drawn("blocks.1") != drawn("blocks.2")
    assert drawn("blocks.1") != drawn("blocks.1", seed=1)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("blocks.1", "chooses no neuron"),
        ("blocks.1:", "chooses no neuron"),
        ("blocks.1:some", "chooses no neuron"),
        ("blocks.1:4-2", "is not a range"),
        ("blocks.1:90-96", "0 … 95"),
        ("blocks.1:random:97", "which has 96"),
        ("blocks.1:random:0", "which has 96"),
        ("blocks.1:96", "no unit 96"),
        ("blocks.7:all", "no site"),
    ],
)
def test_a_choice_that_means_nothing_is_told(vit, choice, message):
    with pytest.raises(AddressError, match=message):
        select_neurons(vit, [choice])


def test_a_folder_holds_what_render_gives(vit, tmp_path):
    neurons = ["blocks.1:7", "blocks.0:3"]
    renders = into(tmp_path / "made", vit, neurons)
    direct = captum_vit.render(vit, neurons, steps=2, progress=False)
    np.testing.assert_allclose(renders.images, direct.images, atol=1e-4)
    record = json.loads((tmp_path / "made" / "blocks.1-7.json").read_text())
    assert record["settings"]["name"] == "tiny"
    assert (tmp_path / "made" / "contact-sheet.png").is_file()


def test_an_interrupted_run_keeps_what_is_finished_and_goes_on_there(vit, tmp_path, monkeypatch):
    neurons = [f"blocks.1:{unit}" for unit in range(4)]
    save, saved = Render.save, []

    def interrupt_after_two(render, folder):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(render.neuron)
        return save(render, folder)

    monkeypatch.setattr(Render, "save", interrupt_after_two)
    with pytest.raises(KeyboardInterrupt):
        into(tmp_path, vit, neurons, batch_size=1)
    monkeypatch.setattr(Render, "save", lambda render, folder: saved.append(render.neuron) or save(render, folder))
    renders = into(tmp_path, vit, neurons, batch_size=1)
    assert saved == neurons, "a finished neuron was rendered again, or one is missing"
    whole = captum_vit.render(vit, neurons, steps=2, progress=False)
    np.testing.assert_allclose(renders.images, whole.images, atol=0.51 / 255)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"steps": 3}, {"recipe": "maco"}, {"dtype": "bfloat16"}, {"size": 48}, {"origin": {"name": "other"}}],
)
def test_other_settings_render_anew_and_take_no_files_from_the_first(vit, tmp_path, change):
    into(tmp_path, vit, ["blocks.1:7"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (other,) = into(tmp_path, vit, ["blocks.1:7"], **change)
    assert other.settings == json.loads(json.dumps(RenderPlan.of(vit, **(SETTINGS | change)).settings))
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(tmp_path.iterdir())) == 6
    again = into(tmp_path, vit, ["blocks.1:7"], **change)
    assert len(list(tmp_path.iterdir())) == 6
    np.testing.assert_allclose(again.images[0], other.image, atol=0.51 / 255)


def test_a_damaged_file_is_rendered_anew(vit, tmp_path):
    into(tmp_path, vit, ["blocks.1:7"])
    (tmp_path / "blocks.1-7.png").write_bytes(b"not a picture")
    renders = into(tmp_path, vit, ["blocks.1:7"])
    np.testing.assert_allclose(Render.load(tmp_path / "blocks.1-7.png").image, renders.images[0], atol=0.51 / 255)
