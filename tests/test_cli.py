"""The command line: what it writes and prints, and that everything wrong with a question is one line and code 2."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

import captum_vit
from captum_vit import cli
from captum_vit.loading.build import build_model
from captum_vit.models import default_photos
from captum_vit.probes.plugins import Failure, registry

pytestmark = pytest.mark.usefixtures("folder", "few_crops")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    """The one line of a command that must end with code 2 and write nothing."""
    before = set(Path().iterdir())
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert not result.stdout
    assert set(Path().iterdir()) == before
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


def a_card(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return min(image.size) > 500 and len(image.convert("RGB").getcolors(2**24)) > 1000


# --- card


def test_without_a_model_the_card_is_of_the_embedded_one_and_named_after_the_neuron(folder):
    result = run("card", "--steps", "2")
    assert result.exit_code == 0, result.output
    (written,) = folder.iterdir()
    assert written.name == f"deit_micro-{cli.DEFAULT_NEURON.replace(':', '-')}-steady.png"
    assert written.name in result.stdout
    assert "2 steps" in result.stdout
    assert a_card(written)


def test_the_default_neuron_is_one_of_the_default_model():
    with captum_vit.adapt(captum_vit.load(cli.DEFAULT_MODEL)) as vit:
        vit.address(cli.DEFAULT_NEURON)


def test_a_card_of_any_timm_model_from_a_folder_of_photos_to_a_named_file(folder, tmp_path):
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name, brightness in {"dark.png": 20, "sub/bright.png": 220}.items():
        Image.fromarray(np.full((200, 180), brightness, dtype=np.uint8)).save(photos / name)
    out = tmp_path / "neuron.png"
    arguments = ("card", "test_vit", "blocks.2:3", "--random-weights", "--images", photos, "--steps", 2, "--out", out)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert a_card(out)
    assert "test_vit (random weights)" in result.stdout
    assert "best 2 of 2" in result.stdout
    first = out.read_bytes()
    assert run(*arguments, "--seed", 0).exit_code == 0
    assert out.read_bytes() == first
    assert run(*arguments, "--seed", 1).exit_code == 0
    assert out.read_bytes() != first


def test_a_single_photo_will_do(folder):
    photo = default_photos()[1]
    result = run("card", "--images", photo, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert photo.name in result.stdout
    assert "best 1 of 1" in result.stdout


def test_files_that_are_no_photos_are_skipped_counted_and_listed(folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    whole = default_photos()[0].read_bytes()
    for name, content in {"a.jpg": whole, "b.jpg": whole[:5000], "c.jpg": b"", "d.png": b"text"}.items():
        (photos / name).write_bytes(content)
    result = run("card", "--images", photos, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "3 files were skipped" in result.stderr
    for name in ("b.jpg", "c.jpg", "d.png"):
        assert name in result.stderr
    assert "a.jpg" not in result.stderr
    assert "best 1 of 1" in result.stdout


def test_as_many_photos_as_asked_for_are_on_the_card(folder):
    result = run("card", "-k", 2, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "best 2 of 80 crops" in result.stdout
    assert result.stdout.count(".jpg") == 2


@pytest.mark.parametrize("command", ["card", "gallery"])
def test_renders_of_another_size_and_number_format_are_kept_apart(command, folder, tmp_path):
    arguments = (command, "deit_micro", "blocks.4:307", "--steps", 1, "--renders", tmp_path / "renders", "-k", 1)
    assert run(*arguments).exit_code == 0
    (record,) = (tmp_path / "renders").glob("*.json")
    assert record.name == "blocks.4-307.json"
    first = json.loads(record.read_text())["settings"]
    result = run(*arguments, "--size", 80, "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    (other,) = set((tmp_path / "renders").glob("*.json")) - {record}
    assert json.loads(record.read_text())["settings"] == first
    second = json.loads(other.read_text())["settings"]
    assert {name for name in first if first[name] != second[name]} == {"size", "dtype"}
    assert second["size"] == [80, 80]


def test_several_neurons_go_on_a_page(folder):
    result = run("card", "deit_micro", "blocks.4:random:2", "blocks.3:0-1", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert [file.name for file in folder.iterdir()] == ["deit_micro-steady-cards.html"]
    assert "4 neurons of deit_micro" in result.stdout
    page = (folder / "deit_micro-steady-cards.html").read_text(encoding="utf-8")
    assert re.findall(r'data-address="(.*?)"', page)[2:] == ["blocks.3:0", "blocks.3:1"]
    assert page.count("<article") == 4


def test_several_neurons_go_in_one_picture_if_a_picture_is_asked_for(folder):
    assert run("card", "deit_micro", "blocks.4:307", "--steps", 1, "--out", "one.png").exit_code == 0
    result = run("card", "deit_micro", "blocks.4:307", "blocks.4:42", "--steps", 1, "--out", "two.png")
    assert result.exit_code == 0, result.output
    with Image.open("one.png") as one, Image.open("two.png") as two:
        assert two.width == one.width
        assert two.height == pytest.approx(2 * one.height, abs=60)


def test_one_neuron_goes_on_a_page_if_a_page_is_asked_for(folder):
    result = run("card", "--steps", 1, "--out", "card.HTML")
    assert result.exit_code == 0, result.output
    assert Path("card.HTML").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_saved_ranking_takes_the_place_of_photos(folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("cat", "coffee", "dandelion", "mountains", "rocket", "wrasse"):
        shutil.copy(default_photos()[0].with_name(f"{name}.jpg"), photos)
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        top = captum_vit.top_images(vit, photos, k=3, progress=False)
    top.save(tmp_path / "top.safetensors")
    best = Path(top.best(cli.DEFAULT_NEURON)[0].path)
    arguments = ("card", "--top", tmp_path / "top.safetensors", "--steps", 1)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "best 3 of 6" in result.stdout
    assert str(best) in result.stdout
    best.unlink()
    result = run(*arguments, "--out", "other.png")
    assert result.exit_code == 2
    assert f"{best.name} was ranked but cannot be read" in result.stderr.splitlines()[-1]
    assert not Path("other.png").exists()


def test_renders_that_are_there_are_taken_and_new_ones_kept(folder, tmp_path):
    renders = tmp_path / "renders"
    made = ("deit_micro", "blocks.4:307", "--recipe", "fourier", "--steps", 2)
    assert run("render", *made, "--out", renders).exit_code == 0
    there = {path: path.stat().st_mtime_ns for path in renders.glob("blocks*")}
    result = run("card", *made, "blocks.4:42", "--renders", renders)
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert (renders / "blocks.4-42.png").is_file()


def test_a_dead_neuron_is_said_to_be_dead(folder, monkeypatch):
    model = captum_vit.load("deit_micro")
    with torch.no_grad():
        model.blocks[1].mlp.fc1.weight[5] = 0
        model.blocks[1].mlp.fc1.bias[5] = -1
    monkeypatch.setattr("captum_vit.loading.build.models.load", lambda name: model)
    result = run("card", "deit_micro", "blocks.1:5", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "warning: blocks.1:5: the optimized image means little" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    {
        "model": (["deit_smal_patch16_224", "blocks.1:1"], 'no model "deit_smal_patch16_224".*deit_small_patch16_224'),
        "embedded model": (["deit_mikro"], "did you mean deit_micro"),
        "weights tag": (["vit_tiny_patch16_224.nope", "blocks.1:1"], 'no weights with the tag "nope"; it has augreg'),
        "architecture": (["densenet121", "features:1"], "no installed adapter serves DenseNet"),
        "site": (["deit_micro", "blocks.12:1"], r'no site "blocks.12".*blocks.0, blocks.1 … blocks.5'),
        "unit": (["deit_micro", "blocks.1:512"], r"no unit 512.*0 … 511"),
        "address": (["deit_micro", "blocks.1"], "chooses no neuron; write SITE:UNIT, SITE:0-63"),
        "no neuron": (["test_vit"], "name a neuron of test_vit, such as blocks.4:42.*captum-vit sites test_vit"),
        "recipe": (["--recipe", "cake"], 'no recipe "cake"; there are ghiasi2022'),
        "device": (["--device", "gpu"], 'no device "gpu" here'),
        "missing folder of photos": (["--images", "nowhere"], "nowhere does not exist"),
        "missing folder of the card": (["--out", "nowhere/card.png"], "no folder nowhere; make it first"),
        "card is a folder": (["--out", "."], "is a folder; give the name of a file in it"),
        "card of unknown format": (["--out", "card.xyz"], r'in the format "\.xyz"; use .*\.png'),
        "card without suffix": (["--out", "card"], "without a suffix"),
        "too many for a picture": (
            ["deit_micro", "blocks.1:0-16", "--out", "card.png"],
            r"of 17 cards; write a page.*\.html",
        ),
        "both rankings and photos": (
            ["--top", "top.safetensors", "--images", "."],
            "--top and --images exclude each other",
        ),
        "missing ranking": (["--top", "top.safetensors"], "top.safetensors cannot be read: No such file"),
        "both weights": (["test_vit", "blocks.1:1", "--checkpoint", "x", "--random-weights"], "exclude each other"),
        "weights for the embedded": (["--random-weights"], "deit_micro comes with its weights"),
        "missing checkpoint": (["test_vit", "blocks.1:1", "--checkpoint", "w.pth"], "w.pth does not exist"),
    }.values(),
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(arguments, told):
    line = refused("card", *arguments)
    assert re.search(told, line), line


def test_a_folder_without_photos_is_refused(tmp_path):
    photos = tmp_path / "no photos"
    photos.mkdir()
    assert "no image in" in refused("card", "--images", photos)


def test_a_folder_of_broken_photos_is_refused(tmp_path):
    photos = tmp_path / "broken photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"nothing")
    result = run("card", "--images", photos)
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]  # after the progress bar
    assert line.startswith("error: none of 1 files can be read as an image")
    assert "a.jpg" in line
    assert not list(Path().iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    def no_space(**_):
        raise PermissionError(13, "Permission denied")

    # The superuser may write everywhere, so the refusal is the system's in words only.
    monkeypatch.setattr("captum_vit.storage.files.tempfile.TemporaryFile", no_space)
    monkeypatch.setattr("captum_vit.loading.build.build", lambda *_: pytest.fail("the work began"))
    assert "card.png cannot be written: Permission denied" in refused("card", "--out", tmp_path / "card.png")


def test_an_error_of_the_system_while_saving_is_one_line_and_leaves_nothing(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    result = run("card", "--steps", 1)
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].endswith("cannot be written: No space left on device")
    assert not list(Path().iterdir())


def test_what_typer_itself_refuses_has_the_same_code():
    assert run("card", "--steps", "0").exit_code == 2
    assert run("card", "--nonsense").exit_code == 2
    assert run("nonsense").exit_code == 2


# --- weights


def test_an_unreachable_hub_is_an_error_that_names_the_ways_out():
    line = refused("card", "deit_tiny_patch16_224", "blocks.1:1")
    assert "cannot be had from the hub" in line
    assert "--checkpoint" in line
    assert "--random-weights" in line


def test_a_model_without_published_weights_is_not_silently_random():
    line = refused("card", "vit_base_patch16_gap_224", "blocks.1:1")
    assert "nobody published weights" in line
    assert "--random-weights" in line


@pytest.fixture(params=["safetensors", "state_dict", "training checkpoint"])
def checkpoint(request, tmp_path) -> tuple[Path, nn.Module]:
    model = timm.create_model("test_vit", num_classes=7).eval()
    path = tmp_path / ("weights.safetensors" if request.param == "safetensors" else "weights.pth")
    weights = model.state_dict()
    if request.param == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights if request.param == "state_dict" else {"epoch": 3, "state_dict": weights}, path)
    return path, model


def test_local_weights_are_those_of_the_file_whatever_the_number_of_classes(checkpoint):
    path, model = checkpoint
    loaded = build_model("test_vit", path)
    images = torch.rand(2, 3, 160, 160)
    assert torch.equal(loaded(images), model(images))
    assert not loaded.training
    result = run("card", "test_vit", "blocks.1:1", "--checkpoint", path, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "random" not in result.stdout


def test_the_weights_of_another_model_are_refused(checkpoint):
    path, _ = checkpoint
    line = refused("card", "test_vit2", "blocks.1:1", "--checkpoint", path)
    assert "are not those of test_vit2" in line
    assert path.name in line


@pytest.mark.parametrize("content", [b"", b"hello"], ids=["empty", "text"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_that_holds_no_weights_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    line = refused("card", "test_vit", "blocks.1:1", "--checkpoint", tmp_path / name)
    assert f"{name} cannot be read as weights" in line


class Exploit:
    """An object whose unpickling would make a file."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    torch.save({"state_dict": Exploit()}, tmp_path / "w.pth")
    assert "cannot be read as weights" in refused("card", "test_vit", "blocks.1:1", "--checkpoint", tmp_path / "w.pth")
    assert not Path("pwned").exists()


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, second, other = (build_model("test_vit", random_weights=True, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.blocks[0].mlp.fc1.weight, second.blocks[0].mlp.fc1.weight)
    assert not torch.equal(first.blocks[0].mlp.fc1.weight, other.blocks[0].mlp.fc1.weight)


# --- sites and adapters


def row(table: str, first: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if first in line.replace("│", " ").split()[:1])
    return [cell.strip() for cell in line.strip("│ ").split("│")]


def test_sites_tables_a_models_sites_without_its_weights():
    result = run("sites", "deit_base_patch16_224")
    assert result.exit_code == 0, result.output
    assert row(result.stdout, "blocks.0") == ["blocks.0", "ffn_blocks_0", "3072", "14×14", "1", "yes"]
    assert row(result.stdout, "blocks.11") == ["blocks.11", "ffn_blocks_11", "3072", "14×14", "1", "no"]


def test_sites_of_a_model_with_stages():
    result = run("sites", "swin_tiny_patch4_window7_224")
    assert row(result.stdout, "layers.2.blocks.4") == [
        "layers.2.blocks.4", "ffn_layers_2_blocks_4", "1536", "14×14", "0", "yes",
    ]  # fmt: skip


def test_sites_of_an_unknown_model():
    assert "did you mean" in refused("sites", "swin_tiny_patch4_window7")


def test_adapters_lists_families_and_where_they_come_from():
    result = run("adapters")
    assert result.exit_code == 0, result.output
    assert row(result.stdout, "coat") == ["coat", "captum-vit", "CoaT"]
    for family in ("convit", "deit", "pit", "swin", "twins"):
        assert row(result.stdout, family)[1] == "captum-vit"
    assert "Failed plugin" not in result.stdout


def test_adapters_tells_which_plugin_failed_and_why(monkeypatch):
    failure = Failure("captum-vit-broken", "broken", "ImportError: no module named [nonsense]")
    monkeypatch.setattr(registry(), "failures", [failure])
    result = run("adapters")
    assert result.exit_code == 0
    assert row(result.stdout, "broken") == [failure.entry_point, failure.distribution, failure.reason]


# --- the program as a whole


def test_the_package_runs_as_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["captum-vit", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("captum_vit", run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("captum-vit 0.")


def test_version_and_help():
    assert run("--version").stdout.startswith("captum-vit 0.")
    overview = run("--help").stdout
    for command in ("card", "sites", "adapters"):
        assert f" {command} " in overview
        help_page = run(command, "--help")
        assert help_page.exit_code == 0
        assert f"captum-vit {command}" in help_page.stdout.replace("root", "captum-vit")


def test_the_command_line_loads_what_computes_draws_and_renders_only_when_it_is_needed():
    slow = ("captum", "lucent", "matplotlib", "numpy", "torch")
    program = f"import sys, captum_vit.cli; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_half_way_leaves_nothing_behind_and_says_so(folder):
    command = [sys.executable, "-c", "from captum_vit.cli import main; main()", "card", "--steps", "1000000"]
    environment = os.environ | {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        wait_for(b"Rendering", process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 130
    assert not stdout
    assert stderr.decode().rstrip().endswith("and no file is half-written.")
    assert b"Traceback" not in stderr
    assert not list(folder.iterdir())


def wait_for(words: bytes, process: subprocess.Popen) -> None:
    """Read a process's standard error until it says ``words``."""
    assert process.stderr is not None
    said = b""
    while words not in said:
        piece = os.read(process.stderr.fileno(), 4096)
        assert piece, f"it ended before it said {words!r}: {said!r}"
        said += piece


class TestRender:
    def test_it_writes_pngs_records_and_a_contact_sheet_and_keeps_them(self, tmp_path: Path) -> None:
        arguments = ["render", "deit_micro", "blocks.0:1", "blocks.3:random:2", "--out", tmp_path / "new", "--steps", 2]
        first = run(*arguments)
        assert first.exit_code == 0, first.output
        assert "3 neurons of deit_micro" in first.stdout
        written = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").glob("blocks*")}
        assert sorted(path.suffix for path in written) == [".json"] * 3 + [".png"] * 3
        assert (tmp_path / "new" / "contact-sheet.png").is_file()
        assert run(*arguments).exit_code == 0
        assert {path: path.stat().st_mtime_ns for path in written} == written

    def test_size_and_number_format_are_those_asked_for(self, tmp_path: Path) -> None:
        arguments = ["render", "deit_micro", "blocks.0:1", "--steps", 1, "--size", 48, "--dtype", "bfloat16"]
        result = run(*arguments, "--out", tmp_path / "new")
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "new" / "blocks.0-1.png") as image:
            assert image.size == (48, 48)
        settings = json.loads((tmp_path / "new" / "blocks.0-1.json").read_text())["settings"]
        assert (settings["size"], settings["dtype"]) == ([48, 48], "bfloat16")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["blocks.9:1"], "no site"),
            (["blocks.1:all-of-them"], "chooses no neuron"),
            (["blocks.1:1", "--recipe", "soup"], "ghiasi2022, fourier, steady, lucent, maco"),
        ],
    )
    def test_a_wrong_question_is_one_line_and_makes_no_folder(self, arguments: list[str], message: str) -> None:
        assert message in refused("render", "deit_micro", *arguments, "--out", "renders")

    def test_a_file_in_the_place_of_the_folder_is_told_before_the_work(self, folder: Path) -> None:
        (folder / "taken").write_text("")
        assert "cannot be used as a folder" in refused("render", "deit_micro", "blocks.1:1", "--out", "taken")
