"""Agreement: whether a finished image lies nearer to its neuron's strongest photos than to others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import captum_vit
from captum_vit.cards.agreement import Agreement, agreements, area_under_curve
from captum_vit.cards.card import Card, neuron_card
from captum_vit.cards.embedding import POOLED, embed
from captum_vit.cards.figure import draw_card
from captum_vit.cards.page import page_of
from captum_vit.cards.words import scores
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.optvis.results import Renders
from captum_vit.ranking.result import TopImages
from captum_vit.storage.part import parts

NEURON = "blocks.4:42"


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load("deit_micro"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty photos of two kinds: red with fine noise, blue with coarse noise."""
    folder, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = [folder / f"{number:02}.png" for number in range(20)]
    for number, path in enumerate(paths):
        side = 64 if number % 2 else 8
        noise = draw.uniform(0, 120, (side, side, 3)) + ([120, 0, 0] if number % 2 else [0, 0, 120])
        Image.fromarray(noise.astype(np.uint8)).resize((64, 64)).save(path)
    return paths


@pytest.fixture(scope="module")
def ranking(vit, photos) -> TopImages:
    return captum_vit.top_images(vit, photos, k=20, sites=["blocks.4"], progress=False)


@pytest.fixture(scope="module")
def rendered(vit) -> Renders:
    return captum_vit.render(vit, NEURON, steps=1, progress=False)


def vectors(vit, paths) -> Tensor:
    return embed(vit, torch.stack([eval_crop(vit)(open_rgb(path)) for path in paths]))[0]


# --- the area


@pytest.mark.parametrize(
    ("positives", "negatives", "area"),
    [
        ([3, 4], [1, 2], 1),
        ([1, 2], [3, 4], 0),
        ([1, 1], [1, 1, 1], 0.5),
        ([2], [1, 3], 0.5),
        ([1, 3], [0, 2], 0.75),
        ([2, 5, 3], [2, 4], 0.5833333),  # 3.5 of 6 pairs: a tie counts half
    ],
)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(positives, negatives, area):
    assert area_under_curve(np.array(positives), np.array(negatives)) == pytest.approx(area)


# --- embeddings


def test_the_embedding_is_what_the_model_gives_to_its_classifier(vit):
    pixels = torch.rand(2, 3, 64, 64)
    found, what = embed(vit, pixels)
    model, images = vit.model, vit.preprocessing.normalize(pixels)
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(found, functional.normalize(pooled, dim=1))
    assert what == POOLED


def test_of_a_wrapped_model_the_embedding_is_its_output():
    wrapped = nn.Sequential(nn.Identity(), captum_vit.load("deit_micro")).eval()
    with captum_vit.adapt(wrapped) as vit:
        pixels = torch.rand(2, 3, 64, 64)
        found, what = embed(vit, pixels)
        with torch.no_grad():
            torch.testing.assert_close(found, functional.normalize(vit(vit.preprocessing.normalize(pixels)), dim=1))
    assert what == "the model's output"


class Giving(nn.Module):
    """What stands for an adapted model that gives something of three images."""

    def __init__(self, output: Any, takes: str | None = None) -> None:
        super().__init__()
        self.output, self.takes, self.model = output, takes, nn.Identity()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.preprocessing = SimpleNamespace(normalize=lambda images: images)

    def forward(self, images: Tensor) -> Any:
        return self.output


@dataclass
class Output:
    last_hidden_state: Tensor
    pooler_output: Tensor | None = None


TOKENS, VECTORS, MAPS = torch.rand(3, 5, 4), torch.rand(3, 4), torch.rand(3, 4, 2, 2)


@pytest.mark.parametrize(
    ("output", "expected", "words"),
    [
        (VECTORS, VECTORS, "the model's output"),
        (TOKENS, TOKENS.mean(1), "mean of the model's output"),
        (MAPS, MAPS.mean((2, 3)), "mean of the model's output"),
        ((VECTORS, TOKENS), VECTORS, "the model's output"),
        (Output(TOKENS, VECTORS), VECTORS, "pooler_output"),
        (Output(TOKENS), TOKENS.mean(1), "mean of last_hidden_state"),
        ({"logits": VECTORS}, VECTORS, "logits"),
        ({"logits": TOKENS[:, :1, :1], "image_embeds": VECTORS}, VECTORS, "image_embeds"),
    ],
)
def test_of_whatever_a_model_gives_the_part_most_like_an_embedding_is_taken(output, expected, words):
    found, what = embed(Giving(output), torch.rand(3, 3, 8, 8))
    torch.testing.assert_close(found, functional.normalize(expected, dim=1))
    assert what == words


@pytest.mark.parametrize("output", [None, (), {"loss": VECTORS}, VECTORS[:2], VECTORS.long(), VECTORS[:, :1], "words"])
def test_what_is_not_one_vector_an_image_is_no_embedding(output):
    assert embed(Giving(output), torch.rand(3, 3, 8, 8)) is None


# --- agreement


def test_agreement_is_the_area_under_the_curve_of_telling_the_ten_strongest_by_likeness(vit, photos, ranking, rendered):
    (agreed,) = agreements(vit, rendered, ranking, progress=False)
    strongest = [image.path for image in ranking.best(NEURON)[:10]]
    others = [str(photo) for photo in photos if str(photo) not in strongest]
    own, _ = embed(vit, torch.from_numpy(rendered[0].image).permute(2, 0, 1)[None])
    expected = area_under_curve(*((vectors(vit, paths) @ own[0]).numpy() for paths in (strongest, others)))
    assert agreed == Agreement(pytest.approx(expected, abs=1e-6), 10, 10, POOLED)


def test_an_image_that_is_a_strongest_photo_agrees_more_than_one_that_is_another(vit, ranking, rendered):
    def of(path: str) -> float:
        pixels = eval_crop(vit)(open_rgb(path)).permute(1, 2, 0).numpy()
        (agreed,) = agreements(vit, Renders((replace(rendered[0], image=pixels),)), ranking, progress=False)
        return agreed.value

    best = ranking.best(NEURON)
    assert of(best[0].path) > of(best[-1].path)


def test_a_render_of_another_size_is_compared_at_the_models_own(vit, ranking, rendered):
    large = replace(rendered[0], image=np.kron(rendered[0].image, np.ones((2, 2, 1), dtype=np.float32)))
    (expected,) = agreements(vit, rendered, ranking, progress=False)
    (agreed,) = agreements(vit, Renders((large,)), ranking, progress=False)
    assert agreed.value == pytest.approx(expected.value, abs=0.1)


def test_other_crops_of_a_strongest_photo_are_not_among_the_others(vit, photos, rendered):
    crops = [part.path for photo in photos[:16] for part in parts(photo, wide=True)]
    top = captum_vit.top_images(vit, crops, k=len(crops), sites=["blocks.4"], progress=False)
    (agreed,) = agreements(vit, rendered, top, progress=False)
    assert (agreed.photos, agreed.others) == (10, 6 * 8)


def test_of_too_few_photos_nothing_is_said(vit, photos, rendered):
    top = captum_vit.top_images(vit, photos[:12], k=12, sites=["blocks.4"], progress=False)
    assert agreements(vit, rendered, top, progress=False) == (None,)


def test_photos_that_are_gone_are_left_out(vit, photos, ranking, rendered, monkeypatch):
    gone = ranking.best(NEURON)[9].path
    sources = {place: (path + "?" * (path == gone), sha) for place, (path, sha) in ranking.sources.items()}
    (agreed,) = agreements(vit, rendered, replace(ranking, sources=sources), progress=False)
    assert (agreed.photos, agreed.others) == (9, 10)


def test_a_model_that_gives_no_vector_has_no_agreement(vit, ranking, rendered, monkeypatch):
    monkeypatch.setattr("captum_vit.cards.agreement.embed", lambda vit, pixels: None)
    assert agreements(vit, rendered, ranking, progress=False) == (None,)


def test_cards_show_it_and_say_nothing_where_it_cannot_be_told(vit, photos):
    card: Card = neuron_card(vit, NEURON, photos, k=2, steps=1, progress=False)
    assert card.agreement is not None
    words = f"agreement {card.agreement.value:.2f} (10 strongest photos, 10 others)"
    assert words in scores(card)
    assert any(words in text.get_text() for text in draw_card(card).texts)
    assert words in page_of([card])
    without = replace(card, agreement=None)
    assert not any("agreement" in line for line in scores(without))
    assert "agreement" not in page_of([without])
