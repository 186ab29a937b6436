"""The commands on single photos: an array and a picture for each, or one line of what is wrong and no file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import CAT, ROCKET
from PIL import Image
from typer.testing import CliRunner, Result

import captum_vit
from captum_vit import cli
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import read_image

NEURON = "blocks.4:307"
COMMANDS = {"patch-map": [], "attribute": ["--method", "saliency"]}


pytestmark = pytest.mark.usefixtures("folder")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    """The one line of a command that must end with code 2 and write no file."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    assert not [path for path in Path().rglob("*") if path.is_file()]
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def a_picture(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.width > 1.5 * image.height > 300 and len(image.convert("RGB").getcolors(2**24)) > 1000


def cropped(path: Path) -> tuple[captum_vit.AdaptedModel, torch.Tensor]:
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    return vit, vit.preprocessing.normalize(eval_crop(vit)(read_image(path))[None])


def test_a_patch_map_is_written_as_array_and_picture(folder):
    result = run("patch-map", "deit_micro", NEURON, CAT, ROCKET, "--out", "maps")
    assert result.exit_code == 0, result.output
    names = {path.name for path in (folder / "maps").iterdir()}
    assert names == {f"{photo}-blocks.4-307.{kind}" for photo in ("cat", "rocket") for kind in ("npy", "png")}
    vit, images = cropped(ROCKET)
    written = np.load("maps/rocket-blocks.4-307.npy")
    np.testing.assert_allclose(written, vit.patch_map(images, NEURON)[0], atol=1e-6)
    assert a_picture(folder / "maps" / "rocket-blocks.4-307.png")
    assert "blocks.4:307 of deit_micro" in result.stdout
    assert f"rocket.jpg  activation {written.mean():.3g}  maps/rocket-blocks.4-307.png and .npy" in result.stdout


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion", "noise-tunnel:saliency"])
def test_an_attribution_is_written_as_array_and_picture(folder, method):
    arguments = ["--method", method] if method != "integrated-gradients" else []  # it is the default
    result = run("attribute", "deit_micro", NEURON, CAT, *arguments, "--out", "maps")
    assert result.exit_code == 0, result.output
    name = f"cat-blocks.4-307-{method.replace(':', '-')}"
    assert {path.name for path in (folder / "maps").iterdir()} == {f"{name}.npy", f"{name}.png"}
    written = np.load(f"maps/{name}.npy")
    assert written.shape == (3, 64, 64)
    assert a_picture(folder / "maps" / f"{name}.png")
    if not method.startswith("noise"):
        vit, images = cropped(CAT)
        np.testing.assert_allclose(written, captum_vit.attribute(vit, NEURON, images, method)[0], atol=1e-6)


def test_random_methods_depend_on_the_seed_and_not_on_the_photos_before(folder):
    def attributions(out: str, *arguments: str | Path) -> np.ndarray:
        method = ("--method", "noise-tunnel:saliency", "--out", out)
        assert run("attribute", "deit_micro", NEURON, *arguments, *method).exit_code == 0
        return np.load(f"{out}/cat-blocks.4-307-noise-tunnel-saliency.npy")

    first = attributions("a", CAT)
    np.testing.assert_array_equal(first, attributions("b", ROCKET, CAT))
    assert not np.array_equal(first, attributions("c", CAT, "--seed", "1"))


def test_any_timm_model_with_other_grids_and_sizes(folder):
    result = run("patch-map", "test_vit2", "blocks.2:3", CAT, "--random-weights", "--out", "maps")
    assert result.exit_code == 0, result.output
    assert "test_vit2 (random weights)" in result.stdout
    assert np.load("maps/cat-blocks.2-3.npy").ndim == 2


def test_photos_of_the_same_name_get_files_of_their_own(folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(CAT.read_bytes())
    (tmp_path / "b" / "X.jpg").write_bytes(ROCKET.read_bytes())
    result = run("patch-map", "deit_micro", NEURON, tmp_path / "a", tmp_path / "b", "--out", "maps")
    assert result.exit_code == 0, result.output
    assert len(list(Path("maps").iterdir())) == 4
    assert not np.array_equal(np.load("maps/x-blocks.4-307.npy"), np.load("maps/X-2-blocks.4-307.npy"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_no_photo_is_skipped_and_reported(command, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(CAT.read_bytes()[:3000])
    arguments = (command, "deit_micro", NEURON, tmp_path / "broken.jpg", CAT, "--out", "maps", *COMMANDS[command])
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "warning: skipped:" in result.stderr
    assert "broken.jpg" in result.stderr
    assert len(list(Path("maps").iterdir())) == 2


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("arguments", "told"),
    {
        "model": (["deit_mikro", NEURON, CAT], "did you mean deit_micro"),
        "site": (["deit_micro", "blocks.9:1", CAT], "blocks.9"),
        "unit": (["deit_micro", "blocks.4:512", CAT], "512"),
        "address": (["deit_micro", "blocks.4", CAT], "chooses no neuron"),
        "photo": (["deit_micro", NEURON, "nowhere.jpg"], "nowhere.jpg does not exist"),
        "device": (["deit_micro", NEURON, CAT, "--device", "nope"], 'no device "nope"'),
    }.values(),
)
def test_a_wrong_question_is_one_line(command, arguments, told):
    assert told in refused(command, *arguments, "--out", "maps", *COMMANDS[command])
    assert not Path("maps").exists()


def test_an_unknown_method_is_one_line_with_similar_names():
    line = refused("attribute", "deit_micro", NEURON, CAT, "--method", "salience", "--out", "maps")
    assert "did you mean saliency" in line
    assert not Path("maps").exists()


def test_a_method_that_needs_several_images_says_so():
    line = refused("attribute", "deit_micro", NEURON, CAT, "--method", "feature-permutation", "--out", "maps")
    assert "two or more" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_photos_none_of_which_can_be_read_are_an_error(command, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"")
    line = refused(command, "deit_micro", NEURON, tmp_path / "broken.jpg", "--out", "maps", *COMMANDS[command])
    assert "none of 1 files can be read" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written_is_an_error(command, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(command, "deit_micro", NEURON, CAT, "--out", tmp_path / "file" / "maps", *COMMANDS[command])
    assert "cannot be used as a folder" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_is_full_leaves_nothing_half_written(command, monkeypatch):
    def full(file: object, *arguments: object, **settings: object) -> None:
        Path(str(file)).write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "save", full)
    assert "No space left" in refused(command, "deit_micro", NEURON, CAT, "--out", "maps", *COMMANDS[command])


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_keeps_what_is_finished(command, monkeypatch):
    from captum_vit.data import images

    read = images.open_rgb

    def interrupted(path: Path) -> np.ndarray:
        if path.stem == "rocket":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(images, "open_rgb", interrupted)
    result = run(command, "deit_micro", NEURON, CAT, ROCKET, "--out", "maps", *COMMANDS[command])
    assert result.exit_code == 130
    assert {path.suffix for path in Path("maps").iterdir()} == {".npy", ".png"}
    assert all(path.name.startswith("cat") for path in Path("maps").iterdir())
