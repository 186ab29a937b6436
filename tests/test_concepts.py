"""The study of concepts finds a unit that was planted, and none where there is nothing to find."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import captum_vit
from captum_vit import Adapter, PatchGrid, cli, feed_forward
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.studies import concepts, label_by_words
from captum_vit.studies.auc import aucs, best_by_chance, interval, ranks
from captum_vit.studies.concepts import TOO_FEW
from captum_vit.studies.figures import draw_study
from captum_vit.studies.wording import NONE

SIZE, UNITS, PLANTED = 16, 24, 17


class Planted(nn.Module):
    """Random units, blind to the colour of a whole patch; and one that sees red."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, UNITS, 8, stride=8)
        with torch.no_grad():
            self.patch_embed.weight -= self.patch_embed.weight.mean((2, 3), keepdim=True)
        self.first, self.second = nn.Conv2d(UNITS, UNITS, 1), nn.Conv2d(UNITS, UNITS, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(images)
        red, green, _ = images.unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)).unbind(1)
        hidden = self.first(patches).tanh()
        hidden = torch.cat((hidden[:, :PLANTED], (red - green)[:, None], hidden[:, PLANTED + 1 :]), dim=1)
        return self.second(hidden).mean((2, 3))


class PlantedSites(Adapter):
    """Describes it."""

    family = "planted"
    models = (Planted,)

    def sites(self, model):
        for name in ("first", "second"):
            yield feed_forward(name, reads=getattr(model, name), grid=PatchGrid.patches(8), layout="b c h w")


class Colours:
    """A CLIP whose images and texts lie along red, green and blue."""

    name, size, device, sha256 = "colours", (8, 8), torch.device("cpu"), ""

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        known = {"a photo of blood": (1.0, 0, 0), "a photo of the sea": (0, 0, 1.0), "a photo": (1.0, 1, 1)}
        return torch.tensor([known[text] for text in texts])


@pytest.fixture(scope="module")
def planted() -> AdaptedModel:
    torch.manual_seed(0)
    seen = Preprocessing((SIZE, SIZE), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return captum_vit.adapt(Planted().eval(), adapter=PlantedSites(), preprocessing=seen)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, in the folder "sunset" with some red; and in "pair" two images, which are too few."""
    folder = tmp_path_factory.mktemp("concepts")
    rng = np.random.default_rng(0)
    for label, count in (("sunset", 12), ("street", 14), ("forest", 14), ("pair", 2)):
        (folder / label).mkdir()
        for number in range(count):
            noise = rng.integers(0, 200, (SIZE, SIZE, 3), dtype=np.uint8)
            noise[..., 0] += 55 * (label == "sunset")
            Image.fromarray(noise).save(folder / label / f"{number}.png")
    (folder / "street" / "broken.png").write_bytes(b"no image")
    return folder


def test_an_auc_counts_pairs_that_are_in_order_and_half_of_ties() -> None:
    values = torch.tensor([[3.0, 1], [1, 1], [2, 0], [0, 2]])
    positive = torch.tensor([[True, True, False, False], [False, False, True, True]])
    # Of the first unit, 3 is above 2 and 0, and 1 above 0: three of four pairs. Of the second, each 1 is above 0 alone.
    assert aucs(ranks(values), positive).tolist() == [[0.75, 0.5], [0.25, 0.5]]
    assert ranks(torch.tensor([[1.0], [1], [5]])).tolist() == [[1.5], [1.5], [3]]
    assert aucs(ranks(torch.tensor([[1.0], [1], [0]])), torch.tensor([[True, False, False]])).item() == 0.75


def test_a_unit_that_is_not_finite_somewhere_tells_nothing() -> None:
    values = torch.tensor([[1.0, 9], [float("nan"), 1]])
    assert aucs(ranks(values), torch.tensor([[True, False]])).tolist() == [[0.5, 1]]


def test_an_interval_lies_around_the_auc_and_narrows_with_the_images() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (40, 1200):
        positive = np.arange(count) % 4 == 0
        values = rng.normal(size=count) + positive
        value = aucs(ranks(torch.from_numpy(values)[:, None]), torch.from_numpy(positive)[None]).item()
        low, high = interval(values, positive)
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    # Two normal distributions one standard deviation apart: Phi(1 / sqrt(2)).
    assert value == pytest.approx(0.760, abs=0.05)
    assert interval(np.array([1.0, 2, 3, 4]), np.array([False, False, True, True])) == (1, 1)


def test_the_best_by_chance_is_that_of_one_deal_and_grows_with_the_units() -> None:
    values = torch.rand(40, 300, generator=torch.Generator().manual_seed(0))
    positive = torch.arange(40) < 10
    one, many = (best_by_chance([ranks(values[:, :units])], positive, 200, seed=0) for units in (1, 300))
    assert one.mean().item() == pytest.approx(0.5, abs=0.03)
    # The largest of 300 whose standard deviation is sqrt(41 / (12 * 10 * 30)): 2.85 of it above a half.
    assert many.mean().item() == pytest.approx(0.5 + 2.85 * (41 / 3600) ** 0.5, abs=0.02)
    in_parts = best_by_chance([ranks(values[:, :100]), ranks(values[:, 100:])], positive, 200, seed=0)
    torch.testing.assert_close(in_parts, many)


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_a_planted_unit_is_found_and_tells_images_that_it_was_not_chosen_on(
    planted: AdaptedModel, photos: Path, reduction: str
) -> None:
    study = concepts(planted, photos, name="planted", units=2, reduction=reduction, permutations=200, progress=False)
    best, second = (row for row in study.rows if row["concept"] == "sunset")
    assert best["AUC where chosen"] > second["AUC where chosen"]
    assert best["unit"] == f"second:{PLANTED}"
    assert (best["AUC"], best["AUC where chosen"], best["depth"]) == (1, 1, 1)
    assert best["p"] == pytest.approx(1 / 201)
    assert (best["images"], best["others"]) == (6, 14)
    assert {row["concept"] for row in study.rows} == {"sunset", "street", "forest"}


def test_folders_that_differ_in_nothing_have_no_unit(planted: AdaptedModel, photos: Path) -> None:
    rng = np.random.default_rng(1)
    files = [*(photos / "street").glob("?.png"), *(photos / "forest").glob("*.png")]
    labels = {str(file): "ab"[side] for file, side in zip(files, rng.permutation(len(files)) % 2, strict=True)}
    study = concepts(planted, labels, permutations=200, progress=False)
    assert min(row["p"] for row in study.rows) > 0.05
    for row in study.rows:
        assert row["low AUC"] <= row["AUC"] <= row["high AUC"]


def test_each_image_is_used_or_left_out_for_a_reason(planted: AdaptedModel, photos: Path) -> None:
    study = concepts(planted, photos, name="planted", limit=8, permutations=9, progress=False)
    counted = study.models["planted"]["concepts"]
    assert (counted["sunset"], counted["forest"]) == (8, 8)
    assert counted["street"] in (7, 8)  # one of them cannot be read
    left_out = study.left_out("planted")
    assert left_out[TOO_FEW] == 2
    assert study.models["planted"]["images"] + sum(left_out.values()) == 43


def test_a_rest_of_its_own_is_what_concepts_are_told_from(planted: AdaptedModel, photos: Path) -> None:
    asked = {"only": ["sunset"], "permutations": 50, "units": 1, "progress": False}
    (row,) = concepts(planted, photos, rest=photos / "forest", **asked).rows
    assert (row["unit"], row["images"], row["others"]) == (f"second:{PLANTED}", 6, 7)


def test_a_word_without_examples_needs_a_clip(planted: AdaptedModel, photos: Path) -> None:
    with pytest.raises(StudyError, match=r'no images of "music"; there are .* a CLIP has to tell'):
        concepts(planted, photos, only=["music"], progress=False)


def test_a_clip_labels_images_by_the_nearest_of_words_or_by_none(tmp_path: Path) -> None:
    for name, colour in (("a", (250, 20, 20)), ("b", (20, 30, 250)), ("c", (90, 90, 90))):
        Image.new("RGB", (20, 12), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no image")
    files = sorted(map(str, tmp_path.iterdir()))
    labels = label_by_words(Colours(), files, ["blood", "the sea"], progress=False)
    found = {Path(file).stem: label for file, label in labels.items()}
    assert found == {"a": "blood", "b": "the sea", "c": NONE, "d": NONE}


def test_the_command_writes_a_table_a_picture_and_cards(photos: Path, folder: Path) -> None:
    asked = ["study", "concepts", "deit_micro", "--images", photos, "--out", "out", "--concept", "sunset"]
    asked += ["--units", "1", "--permutations", "20", "--cards", "--steps", "2"]
    result = CliRunner().invoke(cli.app, list(map(str, asked)))
    assert result.exit_code == 0, result.output
    assert set(os.listdir("out")) >= {"concepts.csv", "concepts.json", "concepts.png", "concepts-deit_micro.html"}
    written = json.loads(Path("out/concepts.json").read_text())
    (row,) = written["rows"]
    assert row["concept"] == "sunset"
    assert row["unit"] in Path("out/concepts-deit_micro.html").read_text()
    assert written["settings"]["only"] == ["sunset"]
    assert f"2 left out: {TOO_FEW}" in result.output


def test_the_command_takes_words_with_a_clip_and_says_so_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_vit.atlas.naming.clip.load_clip", lambda name, device: Colours())
    for number in range(10):
        Image.new("RGB", (20, 20), [(250 - number, 20, 20), (20, number, 250)][number % 2]).save(f"{number}.png")
    asked = ["study", "concepts", "deit_micro", "--images", ".", "--out", "out", "--permutations", "9"]
    words = ["--concept", "blood", "--concept", "the sea"]
    result = CliRunner().invoke(cli.app, [*asked, *words, "--clip", "open_clip:mine/here"])
    assert result.exit_code == 0, result.output
    written = json.loads(Path("out/concepts.json").read_text())
    assert written["models"]["deit_micro"]["concepts"] == {"blood": 5, "the sea": 5}
    assert CliRunner().invoke(cli.app, [*asked, "--clip", "open_clip:mine/here"]).exit_code == 2


def test_the_picture_names_concepts_and_models(planted: AdaptedModel, photos: Path) -> None:
    figure = draw_study(concepts(planted, photos, name="planted", permutations=9, progress=False))
    assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == {"sunset", "street", "forest"}
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["planted"]
