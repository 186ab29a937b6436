"""Different things never share a file, what was kept stays as it is, and the same again takes its own files."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from families import SIX_FAMILIES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lucent.optvis import objectives
from photos import CAT, ROCKET
from PIL import Image
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli
from captum_vit.optvis.folder import render_into
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.results import Render, Renders
from captum_vit.storage.files import shown
from captum_vit.storage.marks import checksum, distinct, file_name, mark_in, mark_of, place


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


@pytest.fixture(scope="module")
def made(vit):
    return captum_vit.render(vit, "blocks.1:7", recipe="fourier", steps=1, size=8, progress=False)[0]


# --- renders

names = st.one_of(
    st.text(min_size=1, max_size=12),
    st.text("aA.-_:/\\ é", min_size=1, max_size=6),
    st.sampled_from(
        ["blocks.1:7", "Blocks.1:7", "blocks.1-7", "blocks 1:7", "x" * 300, "é" * 200, "con", ".", "..", "~"]
    ),
    st.from_regex(r"[a-cA-C. -]{1,3}:[0-9]{1,2}", fullmatch=True),
)
keys = st.sampled_from(["itself", "1" * 64, "2" * 64, None])
identities = st.tuples(names, keys, st.integers(0, 1))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(identities, min_size=1, max_size=8, unique_by=lambda it: it if it[1] in ("itself", None) else it[1:]))
def test_renders_that_differ_in_anything_have_files_of_their_own(made, tmp_path, identities):
    folder = tmp_path / "renders"
    renders = []
    for number, (name, key, seed) in enumerate(identities):
        image = np.full_like(made.image, number / 10)
        key = name if key == "itself" else key
        renders.append(replace(made, neuron=name, key=key, image=image, settings={**made.settings, "seed": seed}))
    paths = [render.save(folder) for render in renders]
    assert len({str(path).casefold() for path in paths}) == len(renders)
    for path, render in zip(paths, renders, strict=True):
        assert path.parent == folder
        assert len(path.name.encode()) < 200
        np.testing.assert_allclose(Render.load(path).image, render.image, atol=0.51 / 255)
        assert Render.load(path).mark == render.mark or render.key is None
    before = contents(folder)
    assert [render.save(folder) for render in renders] == paths
    assert contents(folder) == before
    shutil.rmtree(folder)


def test_an_objective_takes_its_own_files_again_whichever_are_rendered_beside_it(vit, tmp_path):
    sums = [objectives.channel("ffn_blocks_1", 7) + sign * objectives.channel("ffn_blocks_2", 3) for sign in (1, -1)]
    how = {"recipe": "fourier", "steps": 1, "size": 8, "progress": False}
    paths = captum_vit.render(vit, sums, **how).save(tmp_path)
    assert captum_vit.render(vit, sums[::-1], **how).save(tmp_path) == paths[::-1]
    assert captum_vit.render(vit, sums[1], **how).save(tmp_path) == paths[1:]


def test_a_strangers_file_stays(made, tmp_path):
    for name in ("blocks.1-7.png", "contact-sheet.png"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "blocks.1-8.json").write_text("[1]")
    (tmp_path / "blocks.1-9.png").mkdir()
    before = contents(tmp_path)
    others = [replace(made, neuron=f"blocks.1:{unit}", key=f"blocks.1:{unit}") for unit in (8, 9)]
    paths = Renders((made, *others)).save(tmp_path)
    assert len(set(paths)) == 3
    assert {path: path.read_bytes() for path in before} == before
    assert all(Render.load(path).settings == made.settings for path in paths)


def test_half_of_a_render_is_made_whole_under_its_own_name(vit, made, tmp_path):
    path = made.save(tmp_path)
    path.with_suffix(".json").unlink()  # as after a kill between the two
    assert made.save(tmp_path) == path
    assert sorted(each.name for each in tmp_path.iterdir()) == ["blocks.1-7.json", "blocks.1-7.png"]


def test_renders_without_a_known_plan_replace_nothing_but_themselves(made, tmp_path):
    unknown = {**made.settings, "recipe_sha256": None}
    one = replace(made, settings=unknown)
    other = replace(one, image=1 - one.image)
    assert one.save(tmp_path) == replace(one).save(tmp_path) != other.save(tmp_path) != made.save(tmp_path)
    assert len(contents(tmp_path)) == 6


def test_plans_share_a_folder_and_each_takes_again_what_is_its_own(vit, tmp_path, monkeypatch):
    plans = [RenderPlan.of(vit, recipe="fourier", steps=1, size=8, seed=seed) for seed in range(3)]
    neurons = ["blocks.1:7", "blocks.0:3"]
    sheets, before = [], {}
    for plan in plans:
        renders = render_into(tmp_path, vit, neurons, plan, progress=False)
        sheets.append(renders.sheet)
        assert {path: path.read_bytes() for path in before} == before
        before = contents(tmp_path)
    assert len(before) == len(plans) * (2 * len(neurons) + 1)
    assert len(set(sheets)) == len(plans)
    assert {"blocks.1-7.png", "blocks.1-7.json", "contact-sheet.png"} <= {path.name for path in before}
    monkeypatch.setattr("captum_vit.optvis.loop.RenderLoop.steps", lambda self: pytest.fail("it renders again"))
    for plan in reversed(plans):
        again = render_into(tmp_path, vit, neurons, plan, progress=False)
        assert all(plan.repeats(render.settings) for render in again)
        # What is there is taken from where it is, whatever holds the simple name now.
    assert contents(tmp_path) == before


def test_a_contact_sheet_shows_what_the_folder_holds_of_its_plan(vit, tmp_path):
    def sheet(neurons, seed=0):
        how = {"recipe": "fourier", "steps": 1, "size": 8, "seed": seed}
        path = render_into(tmp_path, vit, neurons, progress=False, **how).sheet
        with Image.open(path) as image:
            return path.name, image.size

    assert sheet(["blocks.1:7", "blocks.1:8"]) == ("contact-sheet.png", (20, 8))
    name, size = sheet(["blocks.1:7"], seed=1)
    assert name != "contact-sheet.png"
    assert size == (8, 8)
    assert sheet(["blocks.0:1", "blocks.1:7"]) == ("contact-sheet.png", (20, 20))
    assert sheet(["blocks.0:1"]) == ("contact-sheet.png", (20, 20))
    assert len(list(tmp_path.glob("contact-sheet*"))) == 2


def test_settings_or_a_plan_will_do_and_old_names_of_modules_too(vit, tmp_path):
    from captum_vit import render_folder, rendering, renders

    (made,) = render_folder.render_into(tmp_path, vit, "blocks.1:7", recipe="fourier", steps=1, progress=False)
    plan = RenderPlan.of(vit, recipe="fourier", steps=1)
    assert plan.repeats(made.settings)
    assert render_folder.render_into is render_into
    assert rendering.render is captum_vit.render
    assert renders.Renders is Renders


# --- names and marks


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=400))
def test_any_words_make_a_name_for_a_file(tmp_path, words):
    name = file_name(words)
    assert 0 < len(name.encode()) <= 120
    assert not set(name) & set('/\\:*?"<>| \0\n')
    assert name[0] not in ".-"
    (tmp_path / name).touch()


@given(st.lists(st.text("aAbé-2", max_size=3), max_size=8))
def test_names_are_told_apart_without_regard_to_capitals(words):
    told = list(distinct(words))
    assert len({each.casefold() for each in told}) == len(words)
    for index, word in enumerate(words):
        if word.casefold() not in {each.casefold() for each in words[:index]} | {
            each.casefold() for each in told[:index]
        }:
            assert told[index] == word


def test_a_place_is_free_or_ones_own(tmp_path):
    mine, other = mark_of([1]), mark_of([2])
    assert place(tmp_path, "a", (".x", ".y"), mine, "b") == tmp_path / "a.x"
    (tmp_path / "a.y").write_text(f"... {other} ...")
    assert mark_in(tmp_path / "a.y") == other
    assert place(tmp_path, "a", (".x", ".y"), other, "b") == tmp_path / "a.x"
    assert place(tmp_path, "a", (".x", ".y"), mine, "b") == tmp_path / "a-b.x"
    (tmp_path / "a-b.x").symlink_to("nowhere")
    assert place(tmp_path, "a", (".x", ".y"), mine, "b") == tmp_path / "a-b-2.x"
    assert checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1})


# --- commands

MAP = ("patch-map", "deit_micro", "blocks.4:42", CAT)
MAPS = {
    "another model": ("patch-map", "convit_micro", "blocks.4:42", CAT),
    "another neuron": ("patch-map", "deit_micro", "blocks.4:43", CAT),
    "a method": ("attribute", "deit_micro", "blocks.4:42", CAT, "--method", "saliency"),
    "another photo of that name": ("patch-map", "deit_micro", "blocks.4:42", "other/cat.jpg"),
    "random weights": ("patch-map", "test_vit", "blocks.4:42", CAT, "--random-weights"),
    "other random weights": ("patch-map", "test_vit", "blocks.4:42", CAT, "--random-weights", "--seed", 1),
}


def run(*arguments):
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_different_things_share_no_file(folder, name):
    (folder / "other").mkdir()
    shutil.copy(ROCKET, folder / "other" / "cat.jpg")
    run(*MAP, "--out", "maps")
    before = contents("maps")
    assert {path.name for path in before} == {f"cat-blocks.4-42.{kind}" for kind in ("npy", "png")}
    run(*MAPS[name], "--out", "maps")
    both = contents("maps")
    assert {path: both[path] for path in before} == before
    assert len(both) == 4
    run(*MAPS[name], "--out", "maps")
    run(*MAP, "--out", "maps")
    assert contents("maps").keys() == both.keys()


def test_one_seed_and_another_of_a_method_that_draws_share_no_file(folder):
    asked = ("attribute", *MAP[1:], "--method", "noise-tunnel:saliency", "--out", "maps")
    run(*asked)
    before = contents("maps")
    run(*asked, "--seed", 1)
    assert len(contents("maps")) == 4
    assert before.items() <= contents("maps").items()


def test_a_file_that_a_person_put_there_stays(folder):
    (folder / "maps").mkdir()
    for name in ("cat-blocks.4-42.npy", "deit_micro-blocks.4-42-steady.png"):
        (folder / "maps" / name).write_bytes(b"mine")
    run(*MAP, "--out", "maps")
    assert (folder / "maps" / "cat-blocks.4-42.npy").read_bytes() == b"mine"
    assert len(contents("maps")) == 4


@pytest.fixture
def photos(folder):
    """Two photos, in a folder that is none of a command's."""
    photos = folder.parent / "photos"
    photos.mkdir()
    for photo in (CAT, ROCKET):
        shutil.copy(photo, photos)
    return photos


@pytest.mark.parametrize("command", ["card", "gallery"])
def test_pictures_that_nobody_named_are_not_written_over_others(folder, photos, command):
    def files(*arguments):
        run(command, "deit_micro", "blocks.4:42", "--images", photos, "--steps", 1, "-k", 1, *arguments)
        return contents(folder)

    (only,) = first = files()
    assert files().keys() == first.keys()
    kept = contents(folder)
    second = files("--recipe", "lucent")
    assert second[only] == kept[only]
    assert len(second) == 2
    assert len(files("--seed", 1)) == 3
    assert len(files("--recipe", "lucent")) == 3


def test_pages_that_nobody_named_are_not_written_over_others(folder, photos):
    asked = ("card", "deit_micro", "blocks.4:0-1", "--images", photos, "--steps", 1, "-k", 1)
    run(*asked)
    (page,) = contents(folder)
    assert page.name == "deit_micro-steady-cards.html"
    run(*asked)
    assert list(contents(folder)) == [page]
    run(*asked, "--seed", 1)
    assert len(contents(folder)) == 2


# --- names of photos

NAMES = {
    "not UTF-8": b"caf\xe9.png", "long": b"x" * 240 + b".png", "long and not ASCII": "é".encode() * 120 + b".png",
    "two lines": b"a\nb.png", "escape": b"\x1b[31mred.png", "markup": b"[bold]a[red].png", "mathematics": b"$a$.png",
    "dots": b"...png.png", "space": b" .png", "direction": "\u202egnp.png".encode(), "quotes": b"'\"<b>&.png",
}  # fmt: skip


def test_whatever_photos_are_called_they_and_the_others_are_done(folder):
    photos = folder / "photos"
    photos.mkdir()
    names = [b"a.png", *NAMES.values(), b"z.png"]
    for number, name in enumerate(names):
        Image.new("RGB", (64, 64), (18 * number, 60, 90)).save(photos / os.fsdecode(name), format="PNG")
    (photos / "damaged.png").write_bytes(b"")
    result = run("patch-map", "deit_micro", "blocks.4:42", photos, "--out", "maps")
    assert len(contents("maps")) == 2 * len(names)
    assert len(result.stdout.splitlines()) == 1 + len(names)
    for kind, name in NAMES.items():
        assert shown(os.fsdecode(name)) in result.stdout, kind
    assert "damaged.png" in result.stderr
    asked = ("card", "deit_micro", "blocks.4:42", "--images", photos, "--steps", 1, "-k", len(names))
    for out in ("card.svg", "card.html"):
        result = run(*asked, "--out", out)
        assert len([line for line in result.stdout.splitlines() if "activation" in line]) == 1 + len(names)
    assert Path("card.html").read_text(encoding="utf-8").count("<img") == 1 + 3 * len(names)


def test_a_record_says_the_same_in_every_language(made, tmp_path):
    path = replace(made, neuron="é → \udce9", key=None).save(tmp_path)
    assert json.loads(path.with_suffix(".json").read_text(encoding="ascii"))["neuron"] == "é → \udce9"
