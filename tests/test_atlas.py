"""An atlas: what is in it, going on with it, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli
from captum_vit.atlas.pieces import in_pieces, runs_of, units_of
from captum_vit.cards.agreement import agreements
from captum_vit.cards.card import accentuated
from captum_vit.cards.photos import most_activating
from captum_vit.errors import AddressError, AtlasError, OutputError
from captum_vit.models import default_photos
from captum_vit.optvis.plan import RenderPlan
from captum_vit.ranking.classes import count_classes

NEURONS = ["blocks.1:0-5", "blocks.4:304-309"]
SETTINGS = {"steps": 2, "k": 3, "units_a_piece": 4, "images_a_piece": 4, "batch_size": 3}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(folder, photos, neurons=NEURONS, **settings):
    return captum_vit.make_atlas(
        folder, "deit_micro", photos, neurons=neurons, device="cpu", progress=False, **{**SETTINGS, **settings}
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten photos in two folders, which are their classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number, photo in enumerate(default_photos()[:10]):
        place = folder / ("even" if number % 2 == 0 else "odd")
        place.mkdir(exist_ok=True)
        shutil.copy(photo, place)
    return folder


@pytest.fixture(scope="module")
def atlas(tmp_path_factory, photos):
    return make(tmp_path_factory.mktemp("atlases") / "atlas", [photos])


@pytest.fixture(scope="module")
def vit():
    return captum_vit.load_model("deit_micro")


@pytest.fixture
def copied(atlas, tmp_path):
    return Path(shutil.copytree(atlas.folder, tmp_path / "atlas"))


# --- what is in it


def test_images_that_are_nobodys_best_are_a_piece_like_others(photos, tmp_path):
    made = make(tmp_path / "atlas", [photos], neurons=["blocks.1:3"], k=1, images_a_piece=1)
    assert not made.failures
    assert made["blocks.1:3"].scores["image_names"] == [made["blocks.1:3"].photos[0].name]
    assert repr(made["blocks.1:3"]).startswith("AtlasNeuron(blocks.1:3, 1 photos shown, activation ")


def test_the_photos_of_a_neuron_are_those_of_top_images(atlas, photos, vit):
    top = captum_vit.top_images(vit, photos, 3, progress=False)
    for address in atlas:
        expected, found = top.best(address), atlas[address].photos
        assert [photo.index for photo in found] == [image.index for image in expected]
        assert [photos / photo.name for photo in found] == [Path(image.path) for image in expected]
        np.testing.assert_allclose([p.value for p in found], [i.activation for i in expected], rtol=1e-4, atol=1e-6)
        assert (atlas[address].histogram.counts == top.histogram(address).counts).all()


def test_the_images_of_neurons_are_those_of_render(atlas, vit):
    addresses = ["blocks.1:2", "blocks.4:307"]
    for address, made in zip(addresses, captum_vit.render(vit, addresses, steps=2, progress=False), strict=True):
        found = atlas[address]
        assert abs(found.render / 255 - made.image).mean() < 0.03  # WebP loses some
        assert found.record["activation"] == pytest.approx(made.activation, rel=1e-3, abs=1e-5)
        assert found.scores["activation"] == pytest.approx(made.activation, rel=1e-3, abs=1e-5)


def test_patch_maps_are_the_models(atlas, photos, vit):
    neuron = atlas["blocks.4:307"]
    crop = captum_vit.data.crop.eval_crop(vit)
    for photo in neuron.photos:
        pixels = crop(captum_vit.data.images.open_rgb(photos / photo.name))
        expected = vit.patch_map(vit.preprocessing.normalize(pixels)[None], "blocks.4:307")[0].numpy()
        step = (expected.max() - expected.min()) / 255
        np.testing.assert_allclose(photo.patch_map, expected, atol=0.6 * step + 1e-5)
        assert abs(photo.thumbnail / 255 - pixels.permute(1, 2, 0).numpy()).mean() < 0.06


def test_labels_are_folders_and_counted(atlas):
    neuron = atlas["blocks.4:307"]
    labels = [photo.label for photo in neuron.photos]
    assert set(labels) <= {"even", "odd"}
    counted = dict(zip(neuron.scores["classes"], neuron.scores["class_counts"], strict=True))
    assert counted == {label: labels.count(label) for label in set(labels)}
    expected = count_classes(labels, {"even": 5, "odd": 5})
    assert neuron.scores["class_p_values"] == [each.p_value for each in expected]
    assert neuron.scores["class_enrichments"] == pytest.approx([each.enrichment for each in expected])


def test_the_table_has_a_row_for_each_neuron(atlas):
    rows = atlas.table().to_pylist()
    assert (
        [row["address"] for row in rows]
        == list(atlas)
        == [f"blocks.1:{u}" for u in range(6)] + [f"blocks.4:{u}" for u in range(304, 310)]
    )
    for row in rows:
        neuron = atlas[row["address"]]
        assert row["natural_maximum"] == pytest.approx(neuron.photos[0].value)
        assert row["live"] == (neuron.photos[0].value > 0)
        if row["ratio"] is not None:
            assert row["ratio"] == pytest.approx(row["activation"] / row["natural_maximum"], rel=1e-5)


def test_a_neuron_that_is_not_in_it_is_told_from_those_that_are(atlas):
    assert "blocks.4:307" in atlas
    assert "blocks.4:42" not in atlas
    with pytest.raises(AddressError, match=r"blocks.4:42 is not in this atlas; it has 6 units of blocks.4, 304 … 309"):
        atlas["blocks.4:42"]


@pytest.mark.parametrize("units", [[0], [0, 1, 2, 5, 7, 8], list(range(100)), []])
def test_runs_of_units_are_the_units(units):
    assert list(units_of(runs_of(units))) == units
    assert [unit for runs in in_pieces(units, 4) for unit in units_of(runs)] == units


def test_what_starts_from_a_photo_and_agreement_are_those_of_cards(tmp_path, photos, vit):
    """Of enough photos to tell anything; embeddings are kept in half precision, which may swap a pair of photos."""
    made = make(tmp_path / "atlas", [photos], neurons=["blocks.4:304-307"], k=4)
    plan, top = RenderPlan.of(vit, steps=2), captum_vit.top_images(vit, photos, 4, progress=False)
    best = most_activating(vit, list(made), top, k=4, progress=False)
    renders = captum_vit.render(vit, list(made), plan=plan, batch_size=3, progress=False)
    renders = accentuated(vit, renders, best, plan)
    started_from = [made[address].scores["started_from"] for address in made]
    assert [name and Path(name).name for name in started_from] == [each.started_from for each in renders]
    assert {name is None for name in started_from} == {True, False}
    expected = agreements(vit, renders, top, progress=False)
    one_pair = 1 / (4 * (made.manifest.images.count - 4))
    for address, agreement in zip(made, expected, strict=True):
        assert made[address].scores["agreement"] == pytest.approx(agreement.value, abs=1.01 * one_pair)


# --- going on


def test_another_time_the_bytes_are_the_same(atlas, photos, tmp_path):
    again = make(tmp_path / "again", [photos])
    assert contents(again.folder) == contents(atlas.folder)


@pytest.mark.parametrize(
    "gone",
    [
        "neurons.parquet",
        "rankings/activation.safetensors",
        "renders/blocks.4/000304-000307.json",
        "photos/0",
        "renders",
    ],
)
def test_what_is_missing_is_made_again_and_nothing_else(atlas, photos, copied, gone):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*.webp")}
    shutil.rmtree(copied / gone) if (copied / gone).is_dir() else (copied / gone).unlink()
    (copied / "renders").mkdir(exist_ok=True)
    (copied / "renders" / ".000304-000307.123.partial.webp").write_bytes(b"begun")
    make(copied, [photos])
    assert contents(copied) == contents(atlas.folder)
    kept = {path for path, time in before.items() if path.stat().st_mtime_ns == time}
    again = {path for path in before if path.relative_to(copied).as_posix().startswith(gone.removesuffix(".json"))}
    assert kept == before.keys() - again


def test_photos_that_moved_with_the_atlas_are_found_where_they_are(atlas, photos, copied, tmp_path):
    moved = shutil.copytree(photos, tmp_path / "elsewhere")
    shutil.rmtree(copied / "photos")
    make(copied, [moved])
    assert contents(copied) == contents(atlas.folder)


def test_neurons_can_be_added(atlas, photos, copied):
    more = make(copied, [photos], neurons=["blocks.1:4-7", "blocks.3:random:2"])
    assert len(more) == len(atlas) + 4
    for folder in ("rankings", "renders", "photos"):
        assert contents(atlas.folder / folder).items() <= contents(copied / folder).items()
    assert more["blocks.1:7"].render is not None
    assert len(more["blocks.1:7"].photos) == 3
    assert more["blocks.1:2"].record == atlas["blocks.1:2"].record


def test_what_is_not_said_is_as_it_is_in_the_folder(atlas, photos, copied):
    shutil.rmtree(copied / "renders")
    captum_vit.make_atlas(copied, "deit_micro", [photos], neurons=NEURONS, device="cpu", progress=False)
    assert contents(copied) == contents(atlas.folder)


# --- photos


def test_photos_in_an_archive_are_read_from_there(atlas, photos, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for path in sorted(photos.rglob("*.jpg")):
            archive.add(path, path.relative_to(photos).as_posix())
        archive.add(Path(__file__), "notes.py")
    found = make(tmp_path / "atlas", [tmp_path / "photos.tar"])
    assert len(found.manifest.images.sha256) == 64
    for address in found:
        assert [photo.name for photo in found[address].photos] == [photo.name for photo in atlas[address].photos]
        assert found[address].photos[0].label in ("even", "odd")


def test_photos_in_a_list_are_read_from_there(atlas, photos, tmp_path):
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    (photos / "list.txt").write_text("\n".join(names))
    found = make(tmp_path / "atlas", [photos / "list.txt"])
    (photos / "list.txt").unlink()
    assert contents(found.folder) == contents(atlas.folder)


def test_a_file_that_is_no_photo_is_left_out(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "even" / "broken.jpg").write_bytes(b"no photo")
    found = make(tmp_path / "atlas", [tmp_path / "photos"], neurons=["blocks.1:0"])
    (ranking,) = found.rankings.values()
    assert ranking.images == 10
    assert ranking.skipped[0].startswith("even/broken.jpg cannot be read as an image")


def test_a_photo_that_vanished_is_named_and_nothing_is_lost(atlas, photos, copied, tmp_path):
    moved = Path(shutil.copytree(photos, tmp_path / "photos"))
    name = atlas["blocks.4:307"].photos[0].name
    shutil.rmtree(copied / "photos")
    shutil.rmtree(copied / "renders")
    undertaking = captum_vit.atlas.making.undertake(
        copied, "deit_micro", [moved], neurons=NEURONS, device="cpu", settings={}
    )
    (moved / name).rename(tmp_path / "hidden.jpg")
    from captum_vit.atlas.engines.here import ThisProcess

    with pytest.raises(AtlasError, match=rf"{name} is one of the atlas' photos and not there any more; put it back"):
        captum_vit.atlas.making.carry_out(undertaking, ThisProcess(), progress=False)
    (tmp_path / "hidden.jpg").rename(moved / name)
    make(copied, [moved])
    assert contents(copied) == contents(atlas.folder)


def test_a_photo_that_changed_is_named(atlas, photos, copied, tmp_path):
    moved = Path(shutil.copytree(photos, tmp_path / "photos"))
    name = atlas["blocks.4:307"].photos[0].name
    content = bytearray((moved / name).read_bytes())
    content[-10] ^= 1
    (moved / name).write_bytes(content)
    shutil.rmtree(copied / "photos")
    with pytest.raises(AtlasError, match=rf"{name} is not the file any more that was ranked"):
        make(copied, [moved])


# --- what is refused


def test_other_photos_are_refused(photos, copied, tmp_path):
    with pytest.raises(AtlasError, match=r"an atlas of 10 other photos than these 5.*--images"):
        make(copied, [photos / "even"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 3}, "render's steps is 2 there and 3 here"),
        ({"k": 4}, "k is 3 there and 4 here"),
        ({"recipe": "lucent"}, 'recipe is "steady" there and "lucent" here'),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"batch_size": 5}, "units_a_batch is 3 there and 5 here"),
    ],
)
def test_other_settings_are_refused(photos, copied, settings, words):
    before = contents(copied)
    with pytest.raises(AtlasError, match=words):
        make(copied, [photos], **settings)
    assert contents(copied) == before


def test_another_model_is_refused(photos, copied):
    with pytest.raises(AtlasError, match=r"is another atlas: model's origin is .*deit_micro.* there and .*pit_micro"):
        captum_vit.make_atlas(copied, "pit_micro", [photos], device="cpu", progress=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 3}, "is an atlas of version 3, and this release reads version 2; update captum-vit"),
        ({"version": 1}, "is an atlas of version 1, and this release reads version 2; make it anew"),
        ({"format": "something else"}, 'has the format "something else"'),
        ({"work": None}, "is damaged"),
    ],
)
def test_another_format_is_refused(photos, copied, change, words):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, **change}))
    for use in (captum_vit.open_atlas, lambda folder: make(folder, [photos])):
        with pytest.raises(AtlasError, match=words):
            use(copied)


def test_sites_of_another_kind_are_refused_as_their_photos_are_not_ranked(photos, copied):
    words = (
        "has sites of the kind feed_forward, for which its photos are ranked; ask for blocks.1.query in another folder"
    )
    with pytest.raises(AtlasError, match=words):
        make(copied, [photos], neurons=["blocks.1:0", "blocks.1.query:0"])


def test_a_folder_of_something_else_is_left_alone(photos, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(AtlasError, match=r"is no atlas: it has no manifest.json"):
        make(tmp_path, [photos])
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_a_full_disk_is_one_line_and_nothing_is_lost(atlas, photos, copied, monkeypatch):
    shutil.rmtree(copied / "renders")
    real, written = os.replace, []

    def full(self, target):
        if "renders" in str(target) and len(written) >= 2:
            raise OSError(28, "No space left on device")
        written.append(target)
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OutputError, match=r"renders.*cannot be written: No space left on device"):
            make(copied, [photos])
    assert not list(copied.rglob("*.partial*"))
    make(copied, [photos])
    assert contents(copied) == contents(atlas.folder)


# --- the command


def run(*arguments):
    return CliRunner().invoke(cli.app, ["atlas", *map(str, arguments)])


def test_the_command_makes_an_atlas_and_goes_on_with_it(folder, photos):
    asked = ("deit_micro", "blocks.1.key:0-2", "--images", photos, "--workers", 1, "--steps", 2, "-k", 2)
    result = run(*asked)
    assert result.exit_code == 0, result.output
    assert "3 neurons of deit_micro" in result.output
    before = contents(folder / "deit_micro-atlas")
    assert run(*asked).exit_code == 0
    assert contents(folder / "deit_micro-atlas") == before
    other = run(*asked[:-1], 3)
    assert other.exit_code == 2
    assert "error: deit_micro-atlas is another atlas: k is 2 there and 3 here" in other.output
