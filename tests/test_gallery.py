"""The gallery: many neurons small in one picture, site by site, with the same evidence as on their cards."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from families import SIX_LEARNED, plain
from figures import overlaps, shown, words
from photos import SIX_PHOTOS
from PIL import Image
from typer.testing import CliRunner, Result

import captum_vit
from captum_vit import cli
from captum_vit.cards.card import Card, neuron_card, neuron_cards
from captum_vit.cards.gallery import draw_gallery
from captum_vit.cards.words import number
from captum_vit.errors import CardError
from captum_vit.plots import laid_over

pytestmark = pytest.mark.usefixtures("few_crops")
ADDRESSES = ("blocks.0:7", "blocks.0:8", "blocks.0:9", "blocks.0:10", "blocks.5:300")


@pytest.fixture(scope="module")
def cards() -> tuple[Card, ...]:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        return neuron_cards(vit, ADDRESSES, SIX_PHOTOS, k=2, steps=2, model="deit_micro", progress=False)


def test_each_neuron_has_its_image_its_photos_and_their_maps_on_one_scale(cards):
    axes = iter(draw_gallery(cards).axes)
    for card in cards:
        np.testing.assert_array_equal(shown(next(axes)), card.optimized.image)
        for photo in card.photos:
            np.testing.assert_array_equal(shown(next(axes)), photo.pixels)
            np.testing.assert_array_equal(shown(next(axes)), laid_over(photo.pixels, card.relative_heat(photo)))
    assert not list(axes)


def test_it_tells_sites_units_activations_and_what_repeats_it(cards):
    told = words(draw_gallery(cards))
    assert re.match(r"deit_micro .* blocks\.0   ·   8×8 patches 7 .* 10 .* blocks\.5   ·   8×8 patches 300 ", told)
    for card in cards:
        shown_activation = "means little" if card.optimized.problem else number(card.optimized.activation)
        for told_of_card in (shown_activation, *(number(photo.activation) for photo in card.photos)):
            assert told_of_card in told
    for fact in ("2 steps of recipe steady, seed 0", "best of 6 images", "mean over the patches", "timm"):
        assert fact in told


@pytest.mark.parametrize("columns", [1, 2, 3, 8])
@pytest.mark.parametrize("photos", [0, 1, 2])
def test_nothing_overlaps_or_leaves_the_figure(cards, columns, photos):
    fewer = [replace(card, photos=card.photos[:photos]) for card in cards]
    assert overlaps(draw_gallery(fewer, columns)) == 0


@pytest.mark.parametrize("size", [(32, 64), (64, 32)])
def test_nothing_overlaps_where_images_are_not_square(size):
    with captum_vit.adapt(plain().build(img_size=size)) as vit:
        card = neuron_card(vit, "blocks.1:3", SIX_PHOTOS, k=2, steps=2, progress=False)
    assert overlaps(draw_gallery([card] * 4)) == 0


def test_neurons_stand_in_rows_below_the_name_of_their_site(cards):
    places = [axes.get_position() for axes in draw_gallery(cards, columns=3).axes[::5]]
    left, bottom = (np.array([getattr(place, end) for place in places]) for end in ("x0", "y0"))
    np.testing.assert_allclose(bottom[:3], bottom[0])
    np.testing.assert_allclose(left[[0, 3, 4]], left[0])
    assert (np.diff(left[:3]) > 0.1).all()
    assert (np.diff(bottom[2:]) < -0.1).all()


def test_an_image_that_means_little_is_said_to(cards):
    problems = ("silenced and not excited", None)
    changed = [
        replace(card, optimized=replace(card.optimized, problem=why))
        for card, why in zip(cards, problems, strict=False)
    ]
    figure = draw_gallery(changed)
    assert words(figure).count("means little") == 1
    assert overlaps(figure) == 0


def test_no_card_or_no_column_is_an_error(cards):
    with pytest.raises(CardError, match="no card to draw"):
        draw_gallery([])
    with pytest.raises(CardError, match="0 columns hold no neuron"):
        draw_gallery(cards, columns=0)


# --- the command


def run(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(cli.app, ["gallery", *map(str, arguments)])


@pytest.mark.parametrize("name", SIX_LEARNED)
def test_without_neurons_it_shows_three_of_an_early_a_middle_and_a_late_site(name, folder):
    result = run(name, "--steps", 1, "--renders", "renders")
    assert result.exit_code == 0, result.output
    assert f"9 neurons of {name}" in result.stdout
    sites = captum_vit.adapt(captum_vit.load(name)).sites
    for site in (sites[0], sites[len(sites) // 2], sites[-1]):
        assert len(list(Path("renders").glob(f"{site.name}-*.png"))) == 3
    with Image.open(f"{name}-steady-gallery.png") as picture:
        picture.load()
        assert min(picture.size) > 1000


def test_named_neurons_and_photos_go_on_it_and_kept_renders_are_taken(folder):
    images = [word for photo in SIX_PHOTOS for word in ("--images", photo)]
    arguments = ("deit_micro", "blocks.4:307", "blocks.2:0-1", *images, "-k", 1)
    arguments += ("--steps", 2, "--renders", "renders", "--out", "some.png")
    assert run(*arguments).exit_code == 0
    renders = {path: path.stat().st_mtime_ns for path in Path("renders").glob("blocks*")}
    assert len(renders) == 6
    Path("some.png").unlink()
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "best 1 of 6 images for each neuron" in result.stdout
    assert Path("some.png").is_file()
    assert {path: path.stat().st_mtime_ns for path in renders} == renders


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["deit_micro", "blocks.9:1"], r'no site "blocks.9".*blocks.0, blocks.1 … blocks.5'),
        (["deit_micro", "blocks.1:all"], "512 neurons, and 96 is the most.*captum-vit card"),
        (["--out", "gallery.html"], r'in the format "\.html"; use .*\.png'),
        (["--out", "nowhere/gallery.png"], "no folder nowhere; make it first"),
        (["--recipe", "cake"], 'no recipe "cake"; there are ghiasi2022'),
        (["--images", "nowhere"], "nowhere does not exist"),
        (["--top", "top.safetensors", "--images", "."], "--top and --images exclude each other"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(arguments, told, folder):
    result = run(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert re.search(told, line), line
    assert not list(Path().iterdir())
