"""Notebooks show pictures: renders and cards as HTML that holds all that it shows, and runs nothing."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from photos import SIX_PHOTOS
from PIL import Image

import captum_vit
from captum_vit.cards.card import Card, neuron_card
from captum_vit.cards.words import scores
from captum_vit.optvis.results import Render, Renders, to_pil

HOSTILE = '<script>alert("1")</script> & \udcff'


class Seen(HTMLParser):
    """What a browser finds in HTML: tags, words, and pictures with what they say of themselves."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.images: list[dict[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("br", "img"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += f"{data} "

    def pictures(self) -> list[Image.Image]:
        prefix = "data:image/png;base64,"
        assert all(image["src"].startswith(prefix) for image in self.images)
        return [Image.open(BytesIO(b64decode(image["src"].removeprefix(prefix)))) for image in self.images]


def made(neuron: str, value: float = 0.5, **facts) -> Render:
    image = np.full((8, 12, 3), value, dtype=np.float32)
    return Render(neuron, image, np.zeros(1, dtype=np.float32), 1.25, 0.0, {}, **facts)


def test_a_render_is_its_picture_above_its_address_and_activation():
    seen = Seen(made("blocks.5:42")._repr_html_())
    (picture,) = seen.pictures()
    assert np.array_equal(np.asarray(picture), np.asarray(to_pil(made("blocks.5:42").image)))
    assert seen.images[0]["alt"] == "blocks.5:42"
    assert "blocks.5:42" in seen.words
    assert "activation 1.25" in seen.words


def test_small_images_are_shown_large_and_in_their_proportions():
    (image,) = Seen(made("a")._repr_html_()).images
    assert (int(image["width"]), int(image["height"])) == (128, 85)


def test_a_render_that_means_little_or_started_from_a_photo_says_so():
    accentuated = replace(made("a"), settings={"start": ["photos/cat.jpg#xywh=percent:0,0,50,50", "0"]})
    assert "started from cat.jpg " in Seen(accentuated._repr_html_()).words
    assert "the neuron is dead" in Seen(made("a", problem="the neuron is dead")._repr_html_()).words


def test_renders_are_pictures_beside_one_another_in_their_order():
    renders = Renders((made("blocks.0:1", 0.2), made("blocks.5:42", 0.8)))
    seen = Seen(renders._repr_html_())
    assert [image["alt"] for image in seen.images] == ["blocks.0:1", "blocks.5:42"]
    assert [np.asarray(picture)[0, 0, 0] for picture in seen.pictures()] == [51, 204]
    assert not seen.open


@pytest.fixture(scope="module")
def card() -> Card:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        return neuron_card(vit, "blocks.4:42", SIX_PHOTOS, k=2, steps=1, model="deit_micro", progress=False)


def test_a_card_is_its_render_and_each_photo_above_its_map(card):
    seen = Seen(card._repr_html_())
    render, *photos = seen.pictures()
    assert render.size == (64, 64)
    assert [photo.size for photo in photos] == [(64, 128)] * 2
    assert np.array_equal(np.asarray(photos[0])[:64], np.asarray(to_pil(card.photo.pixels)))
    for fact in ("blocks.4:42", "deit_micro", *scores(card), "best 2 of 6 images", *(p.path.name for p in card.photos)):
        assert fact in seen.words
    assert not seen.open


def test_words_of_others_are_shown_and_never_run(card):
    hostile = replace(card, model=HOSTILE, photos=(replace(card.photo, path=card.photo.path / HOSTILE),))
    for html in (made(HOSTILE)._repr_html_(), made("a", problem=HOSTILE)._repr_html_(), hostile._repr_html_()):
        seen = Seen(html)
        assert "script" not in seen.tags
        assert 'alert("1")' in seen.words
        html.encode()  # no half characters
