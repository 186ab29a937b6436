"""Parts of photos: named by a media fragment, each is an image of its own, and nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import captum_vit
from captum_vit.cards.card import neuron_card
from captum_vit.cards.words import candidates, photo_name, small_print
from captum_vit.cli.cards import find_photos
from captum_vit.data.images import open_rgb, read_image
from captum_vit.errors import ImageError, PlanError, StaleRankingError
from captum_vit.models import default_crops, default_photos
from captum_vit.optvis.plan import RenderPlan
from captum_vit.ranking.result import TopImages
from captum_vit.storage.part import Part, parts

RIGHT = "#xywh=percent:50,0,50,100"


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load("deit_micro"))


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A photo that is black on the left and white on the right."""
    pixels = np.zeros((60, 100, 3), dtype=np.uint8)
    pixels[:, 50:] = 255
    Image.fromarray(pixels).save(tmp_path / "halves.png")
    return tmp_path / "halves.png"


def test_a_part_is_read_as_an_image_of_its_own(halves):
    assert open_rgb(halves).size == (100, 60)
    right = open_rgb(f"{halves}{RIGHT}")
    assert right.size == (50, 60)
    assert np.asarray(right).min() == 255
    assert read_image(f"{halves}#xywh=percent:0,0,50,50").shape == (30, 50, 3)
    assert not read_image(f"{halves}#xywh=percent:0,0,50,50").any()


def test_a_part_is_of_the_upright_photo(tmp_path):
    image = Image.new("RGB", (100, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert open_rgb(f"{tmp_path / 'turned.jpg'}#xywh=percent:0,0,50,100").size == (30, 100)


def test_a_file_that_is_really_called_so_is_that_file(halves):
    odd = halves.with_name(f"halves.png{RIGHT}")
    shutil.copy(halves, odd)
    assert Part.of(odd) == Part(str(odd))
    assert open_rgb(odd).size == (100, 60)


@pytest.mark.parametrize("box", ["60,0,50,50", "0,0,0,50", "0,0,50", "1.2.3,0,50,50", "-1,0,50,50"])
def test_what_is_no_part_of_an_image_is_taken_as_the_name_of_a_file(halves, box):
    path = f"{halves}#xywh=percent:{box}"
    assert Part.of(path).box is None
    with pytest.raises(ImageError, match="No such file"):
        open_rgb(path)


def test_a_part_of_a_photo_that_is_gone_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg#xywh=percent:50,0,50,100 cannot be read"):
        open_rgb(tmp_path / f"gone.jpg{RIGHT}")


percent = st.integers(0, 99)


@given(left=percent, top=percent, data=st.data(), width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_a_part_has_pixels_inside_its_image_and_its_name_says_it_all(left, top, data, width, height):
    box = (left, top, data.draw(st.integers(1, 100 - left)), data.draw(st.integers(1, 100 - top)))
    part = Part("photo.jpg", box)
    assert Part.of(part.path) == part
    first, above, last, below = part.pixels(width, height)
    assert 0 <= first < last <= width
    assert 0 <= above < below <= height


@pytest.mark.parametrize("wide", [True, False])
def test_the_eight_parts_differ_and_the_first_is_the_whole(wide):
    found = parts("photo.jpg", wide=wide)
    assert len({part.path for part in found}) == 8
    assert found[0].path == "photo.jpg"
    halves = [part.box[2:] for part in found if part.box and 100 in part.box[2:]]
    assert halves == [(50, 100) if wide else (100, 50)] * 2


def test_the_default_crops_are_parts_of_all_bundled_photos():
    crops = default_crops()
    assert 300 <= len(crops) <= 1000
    assert list(dict.fromkeys(Part.of(crop).file for crop in crops)) == list(map(str, default_photos()))
    assert len(set(crops)) == len(crops)
    assert min(min(open_rgb(crop).size) for crop in crops[::37]) >= 64


def test_commands_choose_from_the_default_crops_where_no_photos_are_named():
    assert find_photos(None, None) == default_crops()


# --- where images have paths


def test_a_ranking_tells_parts_apart_and_keeps_the_checksum_of_their_file(vit, halves, tmp_path):
    paths = [part.path for part in parts(halves, wide=True)]
    top = captum_vit.top_images(vit, paths, k=8, sites=["blocks.1"], progress=False)
    saved = TopImages.load(top.save(tmp_path / "top.safetensors"))
    best = saved.best("blocks.1:3")
    assert {image.path for image in best} == set(paths)
    assert len({image.sha256 for image in best}) == 1


def test_a_card_shows_the_best_part_of_each_photo_and_says_which_it_is(vit):
    photos = default_photos()[:3]
    crops = [part.path for photo in photos for part in parts(photo, wide=True)]
    card = neuron_card(vit, "blocks.4:42", crops, k=3, steps=1, progress=False)
    assert sorted(photo.part.file for photo in card.photos) == sorted(map(str, photos))
    ranked = captum_vit.top_images(vit, crops, k=len(crops), sites=["blocks.4"], progress=False).best("blocks.4:42")
    for photo in card.photos:
        same_photo = [image for image in ranked if Part.of(image.path).file == photo.part.file]
        assert str(photo.path) == same_photo[0].path
    assert candidates(card) == "24 crops"
    assert "best 3 of 24 crops" in small_print(card)


@pytest.mark.parametrize(
    ("fragment", "name"),
    [
        ("", "cat.jpg"),
        ("#xywh=percent:50,0,50,50", "cat.jpg, upper right"),
        ("#xywh=percent:0,0,50,100", "cat.jpg, left"),
        ("#xywh=percent:0,50,100,50", "cat.jpg, lower"),
        ("#xywh=percent:25,25,50,50", "cat.jpg, middle"),
    ],
)
def test_where_a_part_lies_is_said_in_words(vit, fragment, name):
    cat = next(photo for photo in default_photos() if photo.name == "cat.jpg")
    card = neuron_card(vit, "blocks.1:3", [f"{cat}{fragment}"], steps=1, progress=False)
    assert photo_name(card.photo) == name


def test_a_part_of_a_photo_that_changed_since_the_ranking_is_an_error(vit, halves):
    top = captum_vit.top_images(vit, [f"{halves}{RIGHT}"], k=1, sites=["blocks.1"], progress=False)
    Image.new("RGB", (100, 60), "red").save(halves)
    with pytest.raises(StaleRankingError, match="is not the file that was ranked"):
        neuron_card(vit, "blocks.1:3", top, steps=1, progress=False)


def test_an_image_may_start_from_a_part(vit, halves):
    plan = RenderPlan.of(vit, steps=1)
    start, checksum = plan.starting_from(f"{halves}{RIGHT}").start
    assert start.endswith(RIGHT)
    assert checksum == plan.starting_from(halves).start[1]
    made = captum_vit.render(vit, "blocks.1:3", plan=plan.starting_from(f"{halves}{RIGHT}"), progress=False)[0]
    assert made.started_from == "halves.png"
    with pytest.raises(PlanError, match="cannot be read"):
        plan.starting_from(f"gone.jpg{RIGHT}")
