"""The command that ranks images: the file it writes, how it goes on, and what is wrong with a question in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from photos import SIX_PHOTOS
from typer.testing import CliRunner, Result

import captum_vit
from captum_vit import TopImages, cli
from captum_vit.data import dataset as image_dataset
from captum_vit.ranking import partial as partial_file

FOLDER = Path("..", "photos")


@pytest.fixture(autouse=True)
def photos(folder):
    """Six photos in a folder beside the one that commands run in."""
    photos = folder.parent / "photos"
    photos.mkdir()
    for photo in SIX_PHOTOS:
        shutil.copy(photo, photos)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["top-images", *map(str, arguments)])


def test_the_file_is_what_the_function_gives(folder):
    result = run("deit_micro", "--images", FOLDER, "-k", 3, "--out", "top.safetensors", "--reduction", "max")
    assert result.exit_code == 0, result.output
    assert [path.name for path in folder.iterdir()] == ["top.safetensors"]
    assert "3072 units at 6 sites of deit_micro" in result.stdout
    assert "images  6" in result.stdout
    assert "6/6" in result.stderr
    loaded = TopImages.load("top.safetensors")
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        expected = captum_vit.top_images(vit, FOLDER, 3, reduction="max", progress=False)
    found = loaded.best("blocks.4:307")
    assert [(image.path, image.patch) for image in found] == [
        (image.path, image.patch) for image in expected.best("blocks.4:307")
    ]
    assert loaded.settings["origin"] == {"name": "deit_micro", "weights": "published"}


def test_a_list_of_files_is_read_and_what_is_no_image_is_listed(folder):
    for photo in SIX_PHOTOS[:3]:
        shutil.copy(photo, folder)
    (folder / "broken.jpg").touch()
    (folder / "photos.txt").write_text("astronaut.jpg\nbroken.jpg\n\ncat.jpg\nmissing.jpg\n")
    result = run("deit_micro", "--images", "photos.txt", "--out", "top.safetensors", "--batch-size", 1)
    assert result.exit_code == 0, result.output
    assert "2 files were skipped" in result.stderr
    assert "broken.jpg cannot be read as an image: it is empty" in result.stderr
    assert "missing.jpg" in result.stderr
    best = TopImages.load("top.safetensors").best("blocks.0:0")
    assert {image.path for image in best} == {"astronaut.jpg", "cat.jpg"}


def test_only_the_sites_asked_for_are_in_the_file():
    arguments = ("--sites", "blocks.1", "--sites", "ffn_blocks_3", "--workers", 1)
    result = run("deit_micro", "--images", FOLDER, "--out", "top.safetensors", *arguments)
    assert result.exit_code == 0, result.output
    assert TopImages.load("top.safetensors").sites == ("blocks.1", "blocks.3")


def test_an_interrupted_command_goes_on_and_writes_the_same_file(folder, monkeypatch):
    command = ("deit_micro", "--images", FOLDER, "--batch-size", 2)
    read, reads = image_dataset.open_rgb, []

    def interrupt_at_the_fourth(path):
        if len(reads) == 3:
            raise KeyboardInterrupt
        reads.append(path)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(partial_file, "SECONDS", 0)
        patch.setattr(image_dataset, "open_rgb", interrupt_at_the_fourth)
        result = run(*command, "--out", "top.safetensors")
    assert result.exit_code == 130
    assert [path.name for path in folder.iterdir()] == ["top.safetensors.partial"]

    reads.clear()
    with monkeypatch.context() as patch:
        patch.setattr(image_dataset, "open_rgb", lambda path: reads.append(path) or read(path))
        assert run(*command, "--out", "top.safetensors").exit_code == 0
    assert len(reads) == 4, "two of six were done"
    assert run(*command, "--out", "whole.safetensors").exit_code == 0
    assert (folder / "top.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()
    assert not list(folder.glob("*.partial"))


def test_a_stale_partial_file_is_a_warning(folder):
    (folder / "top.safetensors.partial").write_text("not a ranking")
    result = run("deit_micro", "--images", FOLDER, "--out", "top.safetensors")
    assert result.exit_code == 0, result.output
    assert "warning: top.safetensors.partial is damaged" in result.stderr
    assert "starting anew" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("deit_micro", "--images", "nowhere", "--out", "top.safetensors"), "nowhere does not exist"),
        (("deit_micro", "--images", "nowhere.txt", "--out", "top.safetensors"), "nowhere.txt cannot be read"),
        (("deit_micro", "--images", ".", "--out", "top.safetensors"), "no image in"),
        (("deit_micro", "--images", FOLDER, "--out", "top.npz"), "use .safetensors"),
        (("deit_micro", "--images", FOLDER, "--out", "no/top.safetensors"), "there is no folder no"),
        (("deit_micro", "--images", FOLDER, "--out", "t.safetensors", "--sites", "blocks.9"), 'no site "blocks.9"'),
        (("deit_micro", "--images", FOLDER, "--out", "t.safetensors", "--reduction", "sum"), 'no reduction "sum"'),
        (("deit_micro", "--images", FOLDER, "--out", "t.safetensors", "--device", "abacus"), 'no device "abacus"'),
        (("deit_nano", "--images", FOLDER, "--out", "t.safetensors"), "deit_nano"),
    ],
)
def test_what_is_wrong_with_a_question_is_one_line(folder, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(folder.iterdir())
