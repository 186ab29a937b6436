"""The classes that excite a unit most: counted, set off against chance, from wherever labels come."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import hypergeom
from torch.utils.data import Dataset, Subset
from torchvision.datasets import FakeData, ImageFolder

import captum_vit
from captum_vit.data.labels import labels_of, read_labels
from captum_vit.errors import AddressError, LabelError
from captum_vit.ranking.classes import TopClass, count_classes, top_classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve photos, of which those of one class are bright and the others dark."""
    folder = tmp_path_factory.mktemp("labelled")
    for number in range(12):
        label, grey = ("lamp", 200 + number) if number % 4 == 0 else ("night" if number % 2 else "cave", number)
        (folder / label).mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (grey, grey, grey)).save(folder / label / f"{number:02}.png")
    return folder


@given(st.lists(st.sampled_from("abcd"), min_size=4, max_size=40), st.integers(1, 40), st.randoms())
def test_chance_is_that_of_drawing_without_replacement(labels, drawn, random):
    best = random.sample(labels, min(drawn, len(labels)))
    totals = Counter(labels)
    for found in count_classes(best, totals):
        expected = hypergeom.sf(found.count - 1, len(labels), totals[found.label], len(best))
        assert found.p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)
        average = len(best) * totals[found.label] / len(labels)
        assert found.enrichment == pytest.approx(found.count / average)


def test_classes_come_by_number_and_the_rarer_first():
    found = count_classes("aabbc", {"a": 50, "b": 10, "c": 1})
    assert [(each.label, each.count) for each in found] == [("b", 2), ("a", 2), ("c", 1)]
    assert count_classes("", {"a": 3}) == ()


def test_the_classes_of_a_neuron_are_those_of_its_best_images(folder):
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    top = captum_vit.top_images(vit, folder, 3, sites=["blocks.0"], progress=False)
    labels = labels_of(folder)
    by_brightness = 0
    for unit in range(64):
        found = captum_vit.top_classes(top, f"blocks.0:{unit}", labels)
        assert Counter({each.label: each.count for each in found}) == Counter(
            Path(image.path).parent.name for image in top.best(f"blocks.0:{unit}")
        )
        if found[0] == TopClass("lamp", 3, pytest.approx(4), pytest.approx(1 / 220)):
            by_brightness += 1
    assert by_brightness > 8


def test_labels_must_be_those_of_the_dataset(folder):
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    top = captum_vit.top_images(vit, folder, 3, sites=["blocks.0"], progress=False)
    with pytest.raises(LabelError, match="11 labels and the dataset that was ranked has 12"):
        top_classes(top, "blocks.0:1", labels_of(folder)[:11])
    with pytest.raises(AddressError, match="no unit 9999"):
        top_classes(top, "blocks.0:9999", labels_of(folder))


def test_labels_are_the_names_of_folders(folder):
    expected = ["cave"] * 3 + ["lamp"] * 3 + ["night"] * 6
    assert list(labels_of(folder)) == expected
    assert list(labels_of(sorted(folder.glob("*/*.png")))) == expected
    assert list(labels_of(ImageFolder(folder))) == expected


def test_labels_are_those_that_a_dataset_tells(folder):
    dataset = ImageFolder(folder)
    assert labels_of(Subset(dataset, [11, 0])) == ("night", "cave")

    class Digits(Dataset):
        targets = torch.tensor([1, 0, 1])

        def __len__(self):
            return 3

    assert labels_of(Digits()) == ("1", "0", "1")
    Digits.classes = [("zero", "nought"), ("one",)]
    assert labels_of(Digits()) == ("one", "zero, nought", "one")
    with pytest.raises(LabelError, match="FakeData tells no labels"):
        labels_of(FakeData(4))


def test_an_image_in_no_folder_of_its_class_is_told(folder, tmp_path):
    (tmp_path / "a").mkdir()
    for place in ("a/1.png", "2.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / place)
    with pytest.raises(LabelError, match=r"2\.png is in no folder"):
        labels_of(tmp_path)


def test_labels_are_read_from_a_table(tmp_path):
    table = tmp_path / "labels.csv"
    files = [tmp_path / "a" / "1.png", tmp_path / "b" / "2.png"]
    table.write_text('file,label\na/1.png,"dog, wet"\nb/2.png,cat\n', encoding="utf-8")
    assert read_labels(table, files) == ("dog, wet", "cat")
    assert read_labels(table, ["/elsewhere/2.png"]) == ("cat",)
    table.write_text("a/1.png,dog\nb/1.png,cat\n", encoding="utf-8")
    assert read_labels(table, [tmp_path / "b" / "1.png"]) == ("cat",)
    with pytest.raises(LabelError, match=r"no label for .*2\.png"):
        read_labels(table, files)
    table.write_text("a/1.png\n", encoding="utf-8")
    with pytest.raises(LabelError, match=r'the line "a/1\.png" without a label'):
        read_labels(table, files)
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", files)
