"""Studies measure what they say, on images and boxes that are made by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli, studies
from captum_vit.cli import words
from captum_vit.cli.studies import app as commands_of_studies
from captum_vit.data.images import read_image
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.regression import ridge
from captum_vit.studies import Study, background, find_classifier, frequency
from captum_vit.studies.background import FILLS, filled
from captum_vit.studies.bootstrap import interval
from captum_vit.studies.classifier import FITTED, KINDS, ONLY_ONE, split
from captum_vit.studies.figures import draw_study
from captum_vit.studies.measuring import among_best
from captum_vit.studies.readouts import NEIGHBOURS, linear_probe, nearest_neighbours
from captum_vit.studies.regions import Box, Regions, boxes_to_mask, read_boxes
from captum_vit.studies.spectrum import energy_kept, high_pass, low_pass

SIZE = 64
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
# A square of the class's colour on grey: the background tells nothing.
SQUARE = (16, 16, 48, 48)
XML = """<annotation><size><width>{size}</width><height>{size}</height></size>
<object><name>x</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>
</annotation>"""


@pytest.fixture(scope="module")
def vit() -> Iterator[AdaptedModel]:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as adapted:
        yield adapted


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of each class under ``images``, boxes of all but the last of each under ``boxes``."""
    top = tmp_path_factory.mktemp("studies")
    (top / "boxes").mkdir()
    for label, colour in COLOURS.items():
        (top / "images" / label).mkdir(parents=True)
        for number in range(6):
            image = Image.new("RGB", (SIZE, SIZE), "grey")
            image.paste(colour, SQUARE)
            image.save(top / "images" / label / f"{label}{number}.png")
            if number < 5:
                (top / "boxes" / f"{label}{number}.xml").write_text(XML.format(*SQUARE, size=SIZE))
    return top


def wave(cycles: int, amplitude: float = 0.25, side: int = 32) -> torch.Tensor:
    """An image of vertical stripes around grey, (1, 3, side, side)."""
    line = 0.5 + amplitude * torch.cos(2 * torch.pi * cycles * torch.arange(side) / side)
    return line.expand(1, 3, side, side)


@pytest.mark.parametrize(("radius", "is_kept"), [(3, False), (4, True), (5, True)])
def test_a_wave_passes_up_to_its_own_frequency_and_not_beyond(radius: float, is_kept: bool) -> None:
    image, grey = wave(4), torch.full((1, 3, 32, 32), 0.5)
    torch.testing.assert_close(low_pass(image, radius), image if is_kept else grey)
    torch.testing.assert_close(high_pass(image, radius), grey if is_kept else image)


def test_energy_kept_is_the_share_of_the_squared_amplitudes() -> None:
    image = wave(2, 0.3) + wave(10, 0.1) - 0.5
    assert energy_kept(low_pass(image, 5), image).item() == pytest.approx(0.09 / (0.09 + 0.01), abs=1e-5)
    assert energy_kept(high_pass(image, 5), image).item() == pytest.approx(0.01 / (0.09 + 0.01), abs=1e-5)


def test_low_and_high_frequencies_add_up_to_the_image_and_its_mean() -> None:
    image = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    parts = low_pass(image, 6) + high_pass(image, 6)
    torch.testing.assert_close(parts, image + image.mean((-2, -1), keepdim=True))


def test_the_radius_counts_cycles_of_the_shorter_side() -> None:
    columns = torch.arange(64) / 64
    image = (0.5 + 0.25 * torch.cos(2 * torch.pi * 8 * columns)).expand(1, 3, 32, 64)  # 4 cycles in 32 pixels
    torch.testing.assert_close(low_pass(image, 4), image)
    assert energy_kept(low_pass(image, 3.9), image).item() == pytest.approx(0, abs=1e-6)


def test_nothing_is_lost_of_an_image_of_one_colour() -> None:
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert energy_kept(low_pass(flat, 1), flat).item() == 1


def test_an_interval_lies_around_the_mean_and_narrows_with_the_images() -> None:
    few, many = interval([1, 0] * 10), interval([1, 0] * 1000)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    # 1.96 standard errors of a mean of 2,000 tosses of a coin
    assert many[1] - many[0] == pytest.approx(2 * 1.96 * 0.5 / 2000**0.5, rel=0.1)


def test_an_interval_of_a_ratio_draws_pairs_together() -> None:
    whole = [1, 0, 1, 1, 0, 1]
    assert interval(whole, whole) == pytest.approx((1, 1))  # whatever is drawn
    assert interval([1, 0], [0, 0]) is None
    assert interval([]) is None


def test_halves_of_each_class_are_drawn_by_the_seed_and_single_images_are_left_out() -> None:
    labels = {f"{label}{number}": label for label in "ab" for number in range(10)} | {"c0": "c"}
    fit, test, left_out = split(labels, seed=1)
    assert sorted([*fit, *test, *left_out]) == sorted(labels)
    assert [list(fit.values()).count(label) for label in "abc"] == [5, 5, 0]
    assert left_out == {"c0": ONLY_ONE}
    assert split(labels, seed=1)[0] == fit != split(labels, seed=2)[0]


def test_ridge_shrinks_the_slope_by_its_penalty_and_leaves_the_intercept() -> None:
    # x - 4 is -2, 0 and 2, y - 6 is -4, 0 and 4: slope 16 / (8 + penalty), where the penalty is half of 8.
    weight, bias = ridge(torch.tensor([[2.0], [4.0], [6.0]]), torch.tensor([[2.0], [6.0], [10.0]]), 0.5)
    assert weight.item() == pytest.approx(16 / 12)
    assert bias.item() == pytest.approx(6 - 4 * 16 / 12)


def test_a_probe_tells_apart_what_lies_apart() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.1, 1.1], [5.0, 1.0], [5.1, 1.1]])
    probe = linear_probe(rows, torch.tensor([1, 1, 0, 0]), 2)
    assert probe.scores(rows).argmax(1).tolist() == [1, 1, 0, 0]


def test_neighbours_vote_by_the_cosine_and_classes_without_one_have_no_score() -> None:
    # Cosines with (1, 0), whatever the lengths: 1, 0.8, 0.6 and 0; the third class has no image.
    rows = torch.tensor([[2.0, 0.0], [0.4, 0.3], [3.0, 4.0], [0.0, 0.5]])
    scores = nearest_neighbours(rows, torch.tensor([0, 1, 1, 0]), 3).scores(torch.tensor([[5.0, 0.0], [0.0, 0.1]]))
    # With (0, 1) they are 0, 0.6, 0.8 and 1.
    one, others = np.exp(1 / 0.07) + np.exp(0), np.exp(0.8 / 0.07) + np.exp(0.6 / 0.07)
    expected = [np.log(one), np.log(others), -np.inf]
    np.testing.assert_allclose(scores, [expected, expected], rtol=1e-5)


def test_of_many_images_the_twenty_nearest_vote_for_each_place_of_a_map() -> None:
    # Twenty images of one class lie in the direction of one axis, and fifty of the other in that of another.
    rows = torch.cat([torch.tensor([[1.0, 0.0, 0.0]]).expand(20, 3), torch.tensor([[0.6, 0.8, 0.0]]).expand(50, 3)])
    found = nearest_neighbours(rows, torch.tensor([0] * 20 + [1] * 50), 2)
    scores = found.scores(torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]]))
    assert scores.shape == (2, 1, 2)
    expected = [[[np.log(20) + 1 / 0.07, -np.inf]], [[-np.inf, np.log(20) + 0.8 / 0.07]]]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert found.words == f"{NEIGHBOURS} nearest neighbours by cosine, of 70 images"


def test_a_class_without_a_score_is_not_among_the_best_five() -> None:
    scores = torch.tensor([[3.0, 2.0, -torch.inf], [3.0, 2.0, -torch.inf], [3.0, 2.0, -torch.inf]])
    top1, top5 = among_best(scores, torch.tensor([0, 1, 2]))
    assert top1.tolist() == [True, False, False]
    assert top5.tolist() == [True, True, False]


@pytest.mark.parametrize("kind", ["probe", "neighbours"])
def test_both_kinds_of_fitted_classifier_have_the_same_halves(vit: AdaptedModel, folders: Path, kind: str) -> None:
    labels = {str(file): file.parent.name for file in sorted((folders / "images").rglob("*.png"))}
    fit, test, _ = split(labels, seed=3)
    found = find_classifier(vit, labels, kind, seed=3, progress=False)
    assert found.files == test
    assert found.left_out == dict.fromkeys(fit, FITTED)
    photos = [read_image(file) for file in test]
    images = vit.preprocessing.normalize(torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2))
    assert found.scores(images).argmax(1).tolist() == [found.targets[label] for label in test.values()]


def test_the_head_is_taken_where_it_knows_the_labels_by_name_or_with_a_number(vit: AdaptedModel) -> None:
    found = find_classifier(vit, {"a.png": "ant", "b.png": "n02691156_airplane"}, progress=False)
    assert found.words == "its own head"
    assert found.targets == {"ant": 1, "n02691156_airplane": 0}


def test_a_head_that_does_not_know_a_label_says_so(vit: AdaptedModel) -> None:
    with pytest.raises(StudyError, match='does not know "gizmo"'):
        find_classifier(vit, {"a.png": "ant", "b.png": "gizmo"}, "own", progress=False)


def test_the_union_of_boxes_is_what_is_inside() -> None:
    mask = np.asarray(boxes_to_mask([Box(0, 0, 2, 1), Box(1, 0, 3, 2), Box(3, 3, 9, 9)], (4, 4)))
    assert (mask > 0).astype(int).tolist() == [[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_boxes_are_read_with_the_size_of_the_image_that_they_are_of(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML.format(1, 2, 30, 40, size=64))
    assert read_boxes(tmp_path / "a.xml", (10, 10)) == ([Box(1, 2, 30, 40)], (64, 64))


def test_boxes_follow_an_image_that_was_made_smaller(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML.format(0, 0, 32, 64, size=64))
    mask = np.asarray(Regions(tmp_path).mask("somewhere/a.jpg", (32, 32)))
    assert mask[:, :16].all()
    assert not mask[:, 16:].any()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation></annotation>", "no box"),
        ("not XML", "cannot be read"),
        (XML.format(1, 2, "", 4, size=9), "cannot be read"),
        ("<annotation><size><width>20</width><height>90</height></size></annotation>", "another shape"),
    ],
)
def test_a_file_of_boxes_that_says_nothing_of_the_image_is_named(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(StudyError, match=reason):
        Regions(tmp_path).mask("a.jpg", (64, 64))


def test_a_mask_is_what_is_not_black(tmp_path: Path) -> None:
    picture = Image.new("L", (4, 2))
    picture.putpixel((3, 1), 1)
    picture.save(tmp_path / "a.png")
    assert np.argwhere(np.asarray(Regions(tmp_path).mask("a.jpg", (4, 2)))).tolist() == [[1, 3]]


def test_of_several_boxes_with_one_name_the_image_has_those_of_its_folder(tmp_path: Path) -> None:
    for folder, right in (("cat", 1), ("dog", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.xml").write_text(XML.format(0, 0, right, 4, size=4))
    assert np.asarray(Regions(tmp_path).mask("photos/dog/1.jpg", (4, 4)))[0].tolist() == [255, 255, 255, 0]
    with pytest.raises(StudyError, match="several files"):
        Regions(tmp_path).mask("photos/1.jpg", (4, 4))


def test_zero_is_what_normalization_turns_into_zero_and_mean_is_the_images_own(vit: AdaptedModel) -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert vit.preprocessing.normalize(filled(pixels, "zero", vit.preprocessing.mean)).abs().max() < 1e-5
    torch.testing.assert_close(filled(pixels, "mean", (0, 0, 0))[1, :, 3, 4], pixels[1].mean((1, 2)))
    blurred = filled(pixels, "blur", (0, 0, 0))
    assert blurred.var() < 0.5 * pixels.var()


@pytest.fixture(scope="module")
def of_backgrounds(vit: AdaptedModel, folders: Path) -> Study:
    return background(vit, folders / "images", folders / "boxes", name="micro", progress=False)


def test_where_the_object_alone_tells_the_class_the_background_tells_nothing(of_backgrounds: Study) -> None:
    top1 = {row["view"]: row["top-1"] for row in of_backgrounds.rows}
    # All backgrounds are the same, and so is the answer: right for the images of one class, three or two of five.
    assert top1.pop("background") in (0.4, 0.6)
    assert top1 == {"full": 1, "foreground": 1}
    share = {row["view"]: row["top-1 of full"] for row in of_backgrounds.rows}
    assert share["background"] in (pytest.approx(0.4), pytest.approx(0.6))
    assert [row["top-5"] for row in of_backgrounds.rows] == [1, 1, 1]  # of two classes


def test_the_area_kept_is_that_of_the_boxes(of_backgrounds: Study) -> None:
    area = {row["view"]: row["area kept"] for row in of_backgrounds.rows}
    assert area == {"full": 1, "foreground": pytest.approx(0.25), "background": pytest.approx(0.75)}


def test_every_image_is_used_or_left_out_for_a_reason(of_backgrounds: Study) -> None:
    left_out = of_backgrounds.left_out("micro")
    without_boxes = 6 - of_backgrounds.models["micro"]["images"]
    assert left_out[FITTED] == 6
    assert left_out.get("no file of boxes or mask", 0) == without_boxes
    assert sum(left_out.values()) + of_backgrounds.models["micro"]["images"] == 12


@pytest.fixture(scope="module")
def of_frequencies(vit: AdaptedModel, folders: Path) -> Study:
    return frequency(vit, folders / "images", name="micro", radii=[64, 4], progress=False)


def test_a_filter_that_lets_all_pass_changes_nothing_and_its_opposite_leaves_nothing(of_frequencies: Study) -> None:
    rows = {(row["filter"], row["radius"]): row for row in of_frequencies.rows}
    assert list(rows) == [("none", None), ("low-pass", 4), ("low-pass", 64), ("high-pass", 4), ("high-pass", 64)]
    assert rows["low-pass", 64]["energy kept"] == pytest.approx(1)
    assert rows["low-pass", 64]["top-1 of full"] == 1
    assert rows["high-pass", 64]["energy kept"] == pytest.approx(0, abs=1e-6)
    energy = rows["low-pass", 4]["energy kept"] + rows["high-pass", 4]["energy kept"]
    assert energy == pytest.approx(1, abs=1e-5)


def test_the_same_seed_gives_the_same_study(vit: AdaptedModel, folders: Path, of_frequencies: Study) -> None:
    again = frequency(vit, folders / "images", name="micro", radii=[4, 64], batch_size=5, progress=False)
    assert [row["top-1"] for row in again.rows] == [row["top-1"] for row in of_frequencies.rows]
    assert again.models["micro"]["left_out"] == of_frequencies.models["micro"]["left_out"]


def test_a_study_is_read_as_it_was_saved(of_frequencies: Study, tmp_path: Path) -> None:
    table, whole = of_frequencies.save(tmp_path / "new")
    assert Study.load(whole) == of_frequencies
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["filter"] for row in rows] == [row["filter"] for row in of_frequencies.rows]
    table.write_text("{}")
    with pytest.raises(StudyError, match="is no study"):
        Study.load(table)


def test_studies_of_different_settings_or_of_one_model_twice_do_not_add_up(of_frequencies: Study) -> None:
    other = Study("frequency", of_frequencies.rows, {**of_frequencies.settings, "seed": 1}, {"other": {}})
    with pytest.raises(StudyError, match="differ in seed"):
        _ = of_frequencies + other
    with pytest.raises(StudyError, match="micro is in both"):
        _ = of_frequencies + of_frequencies


@pytest.mark.parametrize("study", ["of_frequencies", "of_backgrounds"])
def test_the_picture_shows_each_model(study: str, request: pytest.FixtureRequest) -> None:
    figure = draw_study(request.getfixturevalue(study))
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["micro"]


def test_the_command_writes_a_table_of_several_models_and_a_picture(folders: Path, folder: Path) -> None:
    arguments = ["--images", folders / "images", "--boxes", folders / "boxes", "--fill", "mean", "--out", "out"]
    result = CliRunner().invoke(
        cli.app, list(map(str, ["study", "background", "deit_micro", "swin_micro", *arguments]))
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "out").iterdir()} == {f"background.{end}" for end in ("csv", "json", "png")}
    written = json.loads((folder / "out" / "background.json").read_text())
    assert list(written["models"]) == ["deit_micro", "swin_micro"]
    assert written["settings"]["fill"] == "mean"
    assert f"6 left out: {FITTED}" in result.output


def test_the_command_knows_the_words_of_the_library() -> None:
    assert words.FILLS == FILLS
    assert words.CLASSIFIERS == KINDS
    assert all(command.callback.__name__ in studies.__all__ for command in commands_of_studies.registered_commands)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["depths", "deit_micro"], "depths"),
        (["background", "deit_micro"], "--boxes"),
        (["frequency", "deit_micro", "--fill", "blur"], "--fill"),
        (["background", "deit_micro", "--boxes", ".", "--fill", "red"], 'no fill "red"; use zero, mean, blur'),
        (["frequency", "deit_micro", "swin_micro", "--checkpoint", "a"], "1 checkpoints for 2 models"),
        (["frequency", "deit_micro", "--classifier", "best"], 'no classifier "best"'),
    ],
)
def test_a_question_that_means_nothing_is_one_line(folder: Path, arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(cli.app, ["study", *arguments, "--images", ".", "--out", "out"])
    assert result.exit_code == 2
    assert expected in result.output
    assert not (folder / "out").exists()
