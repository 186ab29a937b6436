"""Arguments that mean nothing: each is refused by its name, in one line that says what to give, before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import captum_vit
from captum_vit import plots
from captum_vit.cards.card import neuron_card, neuron_cards
from captum_vit.cards.figure import draw_cards
from captum_vit.checks import image_batch, shortly, some, whole_number
from captum_vit.errors import ArgumentError, CaptumViTError
from captum_vit.models import default_photos
from captum_vit.optvis.folder import render_into
from captum_vit.optvis.plan import RenderPlan

NEURON = "blocks.1:7"
PHOTOS = default_photos()[:2]


@pytest.fixture(scope="module")
def vit():
    return captum_vit.adapt(captum_vit.load("deit_micro"))


def render(vit, neurons=NEURON, **settings):
    return captum_vit.render(vit, neurons, **{"steps": 1, "progress": False, **settings})


def cards(vit, addresses=(NEURON,), photos=PHOTOS, **settings):
    return neuron_cards(vit, addresses, photos, **{"steps": 1, "progress": False, **settings})


def into(vit, neurons=(NEURON,), plan=None, **settings):
    return render_into("never-made", vit, neurons, plan, progress=False, **settings)


def vis(vit, objective=NEURON, **settings):
    return captum_vit.render_vis(
        vit, objective, **{"thresholds": (1,), "show_image": False, "progress": False, **settings}
    )


def attribute(vit, images, address=NEURON):
    return captum_vit.attribute(vit, address, images, "saliency")


IMAGES = torch.zeros(1, 3, 64, 64)
NO_STEPS = [
    (-1, "steps is -1"),
    (0, "steps is 0"),
    (2.0, "steps is 2.0"),
    ("4", 'steps is "4"'),
    (True, "steps is True"),
]
NO_SIZES = [0, -3, (), (64,), (64, 0), (64, 64, 64), 64.0, "64", (64, "64"), [64, None]]
NO_BATCH = [0, -1, 1.5, "8"]
NO_IMAGES = {
    "path": ("photo.jpg", 'images is "photo.jpg", a path; read it first'),
    "Path": (Path("photo.jpg"), 'images is "photo.jpg", a path'),
    "Pillow": (Image.new("RGB", (64, 64)), "images is an Image; give a tensor"),
    "array": (
        np.zeros((1, 3, 64, 64), dtype=np.float32),
        r"images is a ndarray of shape \(1, 3, 64, 64\); give a tensor",
    ),
    "nothing": (None, "images is None; give a tensor"),
    "list": ([IMAGES], "images is a list; give a tensor"),
    "one": (IMAGES[0], r"images has the shape \(3, 64, 64\); give one or more, .* images\[None\]"),
    "none": (IMAGES[:0], r"images has the shape \(0, 3, 64, 64\); give one or more"),
    "integers": (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "images are torch.uint8; give floating-point"),
}
CALLS = {
    **{
        f"render steps={value!r}": (lambda vit, value=value: render(vit, steps=value), told) for value, told in NO_STEPS
    },
    **{
        f"render size={value!r}": (lambda vit, value=value: render(vit, size=value), "size is .*give a side in pixels")
        for value in NO_SIZES
    },
    **{
        f"{name} batch_size={value!r}": (
            lambda vit, f=f, value=value: f(vit, batch_size=value),
            "batch_size is .*; give",
        )
        for name, f in {"render": render, "render_into": into, "neuron_cards": cards}.items()
        for value in NO_BATCH
    },
    **{
        f"{name} of no neuron": (
            lambda vit, f=f: f(vit, []),
            r"(neurons|addresses) is empty; give at least one, such as",
        )
        for name, f in {"render": render, "render_into": into, "neuron_cards": cards}.items()
    },
    **{
        f"{name} of neurons={value!r}": (
            lambda vit, f=f, value=value: f(vit, value),
            "(neurons|addresses) is .*; give a list",
        )
        for name, f in {"render": render, "render_into": into, "neuron_cards": cards}.items()
        for value in (None, 5)
    },
    **{
        f"{name} of a bare model": (lambda vit, f=f: f(vit.model), r"vit is a VisionTransformer; give an adapted model")
        for name, f in {"render": render, "render_into": into, "cards": cards, "plan": RenderPlan.of}.items()
    },
    **{
        f"{name} of a model's name": (
            lambda vit, f=f: f("deit_small_patch16_224"),
            r"captum_vit.adapt\(timm.create_model\(",
        )
        for name, f in {"render": render, "render_into": into, "cards": cards}.items()
    },
    **{
        f"attribute images: {name}": (lambda vit, value=value: attribute(vit, value), told)
        for name, (value, told) in NO_IMAGES.items()
    },
    **{
        f"cards k={value!r}": (lambda vit, value=value: cards(vit, k=value), "k is .*; give")
        for value in (0, -2, 1.0, "4")
    },
    **{
        f"render seed={value!r}": (lambda vit, value=value: render(vit, seed=value), "seed is .*; give a whole number")
        for value in (None, 0.5, "0")
    },
    **{
        f"render recipe={value!r}": (
            lambda vit, value=value: render(vit, recipe=value),
            "no recipe .*; there are ghiasi2022",
        )
        for value in (None, 5, ["fourier"], "soup")
    },
    **{
        f"render_vis thresholds={value!r}": (
            lambda vit, value=value: vis(vit, thresholds=value),
            "thresholds is .*; give",
        )
        for value in ((), (0,), (-1,), 512, (1.5,), "512")
    },
    **{
        f"render_vis fixed_image_size={value!r}": (
            lambda vit, value=value: vis(vit, fixed_image_size=value),
            "fixed_image_size is .*; give",
        )
        for value in (0, -5, (64, 0))
    },
    "render_vis of a name": (lambda vit: vis("deit_micro"), 'model is "deit_micro"; give an adapted model'),
    "render_vis of nothing": (lambda vit: vis(vit, None), "objective_f is None; give an address"),
    "a plan that is a name": (lambda vit: render(vit, plan="fourier", steps=1), 'plan is "fourier"; give a RenderPlan'),
    "an origin without words": (lambda vit: render(vit, origin={"photo": object()}), "origin cannot be recorded"),
    "cards of one text": (lambda vit: cards(vit, NEURON), f'addresses is "{NEURON}"; give a list'),
    "cards without photos": (lambda vit: cards(vit, photos=[]), "photos is empty; give at least one"),
    "cards of one path": (lambda vit: cards(vit, photos="cat.jpg"), 'photos is "cat.jpg"; give a list'),
    "cards of pixels": (lambda vit: cards(vit, photos=[IMAGES]), r"photos holds a Tensor of shape .*; give the paths"),
    "a card of a number": (lambda vit: neuron_card(vit, 5, PHOTOS, steps=1, progress=False), '"5" is not an address'),
    "drawing no card": (lambda vit: draw_cards([]), "no card to draw"),
    "drawing a path": (
        lambda vit: plots.overlay("cat.jpg", np.zeros((4, 4))),
        '"cat.jpg" cannot be drawn; give an array',
    ),
    "attribution without a method": (
        lambda vit: captum_vit.attribute(vit, NEURON, IMAGES, None),
        "method is None; give",
    ),
    **{
        f"attribution at patch={value!r}": (
            lambda vit, value=value: captum_vit.attribute(vit, NEURON, IMAGES, "saliency", patch=value),
            r"patch is .*; give \(row, column\)",
        )
        for value in (3, "34", (1,), (1, 2, 3), (1.0, 2.0), (None, 1))
    },
    "attribution of a bare model": (
        lambda vit: captum_vit.attribute(vit.model, NEURON, IMAGES),
        "vit is a VisionTransf",
    ),
    **{
        f"load {value!r}": (
            lambda vit, value=value: captum_vit.load(value),
            "no embedded model .*; there are: deit_micro",
        )
        for value in (None, 5, ["deit_micro"], "deit_small_patch16_224")
    },
}


@pytest.mark.parametrize("call", CALLS)
def test_what_means_nothing_is_refused_by_name(vit, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("captum_vit.optvis.loop.RenderLoop.steps", lambda self: pytest.fail("it began to render"))
    ask, told = CALLS[call]
    with pytest.raises(CaptumViTError, match=told) as caught:
        ask(vit)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_means_something_in_other_words_is_taken(vit):
    (made,) = render(vit, size=np.int64(32), steps=np.int64(1), seed=np.int64(3), batch_size=np.int64(1))
    assert made.image.shape == (32, 32, 3)
    assert made.settings["steps"] == 1
    assert type(made.settings["seed"]) is int
    assert render(vit, (each for each in [NEURON]))[0].neuron == NEURON
    assert len(vis(vit, thresholds=[1])) == 1


@given(
    st.one_of(
        st.none(), st.floats(), st.text(), st.binary(), st.booleans(), st.integers(max_value=0), st.lists(st.none())
    )
)
def test_only_whole_numbers_count(value):
    with pytest.raises(ArgumentError) as caught:
        whole_number("k", value)
    assert str(caught.value).startswith("k is ")


@given(st.integers(min_value=1))
def test_whole_numbers_do(value):
    assert whole_number("k", value) == value


@given(st.recursive(st.one_of(st.none(), st.text(), st.integers(), st.binary()), st.lists))
def test_any_value_is_described_in_a_few_words(value):
    assert len(shortly(value)) < 70 or isinstance(value, int)


@pytest.mark.parametrize("value", [None, 5, "text", b"bytes", Path("path"), [], (), {}])
def test_what_is_no_list_of_some_is_refused(value):
    with pytest.raises(ArgumentError, match="neurons is"):
        some("neurons", value, "this")


def test_a_batch_of_images_is_taken():
    image_batch("images", IMAGES)
    image_batch("images", torch.zeros(2, 3, 8, 8, dtype=torch.bfloat16))
