"""One habit of all commands: model, neurons, images; the same words for the same thing; near answers to near misses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer.main
from photos import CAT, ROCKET
from typer.testing import CliRunner, Result

import captum_vit
from captum_vit import cli
from captum_vit.models import available
from captum_vit.probes.plugins import Failure, registry

pytestmark = pytest.mark.usefixtures("folder", "few_crops")

GROUP = typer.main.get_command(cli.app)
OF_NEURONS = ("card", "gallery", "render", "patch-map", "attribute", "top-images", "atlas")
DOCTOR = import_module("captum_vit.cli.doctor")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def parameters(command: str) -> dict[str, typer.core.TyperArgument | typer.core.TyperOption]:
    return {parameter.name: parameter for parameter in GROUP.commands[command].params}


# --- the same words


@pytest.mark.parametrize("command", OF_NEURONS)
def test_the_model_comes_first_then_neurons_and_all_else_is_an_option(command):
    arguments = [each for each in parameters(command).values() if not each.opts[0].startswith("-")]
    assert [(each.name, each.metavar, each.required) for each in arguments] == [
        ("model", "MODEL", False),
        ("neurons", "SITE:UNIT...", False),
    ]


@pytest.mark.parametrize("command", OF_NEURONS)
def test_the_same_thing_is_called_the_same_and_nothing_must_be_given(command):
    there = parameters(command)
    assert there["out"].opts == ["--out"]
    assert there["out"].metavar == "PATH"
    assert "when not given" in there["out"].help
    assert there["device"].opts == ["--device"]
    assert not [name for name, each in there.items() if each.required]
    if "images" in there:
        assert (there["images"].opts, there["images"].metavar, there["images"].multiple) == (["--images"], "PATH", True)
    if "k" in there:
        assert there["k"].opts == ["-k", "--top-k"]


def test_all_chooses_neurons_of_every_site():
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        from captum_vit.probes.selection import select_neurons

        assert select_neurons(vit, ["all:7"]) == [f"blocks.{block}:7" for block in range(6)]
        random = select_neurons(vit, ["all:random:2"])
        assert random == select_neurons(vit, [f"blocks.{block}:random:2" for block in range(6)])
        assert len(random) == 12


# --- where files go


def test_without_out_files_carry_model_neuron_and_what_was_made(folder):
    (folder / "photos.txt").write_text(f"{CAT}\n{ROCKET}\n")
    neurons = ("deit_micro", "blocks.4:42", "blocks.1:3-4")
    for command in (("patch-map", *neurons), ("attribute", *neurons[:2], "--method", "saliency")):
        result = run(*command, "--images", "photos.txt")
        assert result.exit_code == 0, result.output
    assert run("render", "deit_micro", "blocks.4:42", "--recipe", "fourier", "--steps", 1).exit_code == 0
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "deit_micro-fourier-renders",
        "deit_micro-patch-maps",
        "deit_micro-saliency",
    ]
    assert sorted(path.stem for path in (folder / "deit_micro-patch-maps").glob("*.npy")) == sorted(
        f"{photo}-{neuron}" for photo in ("cat", "rocket") for neuron in ("blocks.4-42", "blocks.1-3", "blocks.1-4")
    )
    assert (folder / "deit_micro-saliency" / "rocket-blocks.4-42-saliency.png").is_file()
    assert (folder / "deit_micro-fourier-renders" / "blocks.4-42.png").is_file()


def test_maps_of_several_neurons_are_those_of_each(folder):
    asked = ("deit_micro", "blocks.4:42", "blocks.1:3", "--images", CAT)
    assert run("patch-map", *asked, "--out", "together").exit_code == 0
    assert run("patch-map", *asked[:2], *asked[3:], "--out", "alone").exit_code == 0
    name = "cat-blocks.4-42.npy"
    np.testing.assert_array_equal(np.load(f"together/{name}"), np.load(f"alone/{name}"))
    assert len(list(Path("together").glob("*.png"))) == 2


def test_a_ranking_without_a_name_takes_no_other_rankings_place(folder):
    asked = ("top-images", "deit_micro", "blocks.1:all", "--images", CAT)
    assert run(*asked).exit_code == 0
    (first,) = folder.iterdir()
    assert first.name == "deit_micro-top-images.safetensors"
    before = first.read_bytes()
    result = run(*asked[:2], "blocks.2:5", *asked[3:], "-k", 1)
    assert result.exit_code == 0, result.output
    assert captum_vit.TopImages.load(result.stdout.split()[-1]).sites == ("blocks.2",)
    assert first.read_bytes() == before


# --- near misses


@pytest.mark.parametrize(
    ("line", "told"),
    {
        "model last": ("card blocks.3:42", "give the model first: root card MODEL blocks.3:42"),
        "begun model": ("sites deit_small", "did you mean deit_small_patch16_224"),
        "site": ("card deit_micro block.3:1", "did you mean blocks.3"),
        "command": ("crad", "did you mean root card?"),
        "no command": ("deit_micro", "the command comes first: card, gallery"),
        "option": ("card --imges x", "no option --imges of root card; did you mean --images?"),
        "option of another": ("card --canvas 300", "no option --canvas of root card; it is an option of root render"),
        "no option": ("adapters --zzz", "no option --zzz of root adapters; root adapters --help shows"),
        "missing argument": ("draft", "root draft needs MODEL"),
        "missing photos": ("patch-map", "give photos, or folders of them, with --images PATH"),
        "number": ("card --steps 0", "'--steps'"),
        "too much": ("sites deit_micro blocks.3", "blocks.3"),
    }.values(),
)
def test_a_near_miss_is_one_line_with_the_near_answer(folder, line, told):
    result = run(*line.split())
    assert result.exit_code == 2
    assert not result.stdout
    (said,) = result.stderr.splitlines()
    assert said.startswith("error: ")
    assert told in said
    assert not list(folder.iterdir())


def test_without_a_command_the_help_is_shown_and_no_error():
    result = run()
    assert "Usage" in result.stdout + result.stderr
    assert "error" not in result.stderr


# --- how long


@pytest.mark.parametrize(
    ("command", "told"),
    {
        "render": (["render", "--steps", "2"], "1 neurons to render: about"),
        "ranking": (["top-images", "deit_micro", "blocks.0:1"], "80 images to rank: about"),
        "photos": (["patch-map", "--images", str(CAT), "--images", str(ROCKET)], "Explaining photos: about"),
    }.values(),
)
def test_what_takes_long_says_how_long_before_it_starts(monkeypatch, command, told):
    monkeypatch.setattr("captum_vit.progress.LONG", -1)  # all that is measured is long
    monkeypatch.setattr("captum_vit.progress._WATCHED", 0)
    monkeypatch.setattr("captum_vit.optvis.timing._STEPS_WORTH_TELLING", 1)
    monkeypatch.setattr("captum_vit.cli.folders._MANY", 2)
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert told in result.stderr


# --- completion

COMPLETING = """
import atexit, sys
slow = ("torch", "timm", "numpy", "lucent", "matplotlib")
atexit.register(lambda: print([name for name in slow if name in sys.modules], file=sys.stderr))
from captum_vit.cli import app
app(prog_name="captum-vit")
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    {
        "a command": ("captum-vit pat", ["patch-map"]),
        "a model": ("captum-vit card deit_m", ["deit_micro"]),
        "one of timm's": ("captum-vit sites vit_betwixt_patch16_rope", ["vit_betwixt_patch16_rope_reg4_gap_256"]),
        "a recipe": ("captum-vit render --recipe s", ["steady"]),
    }.values(),
)
def test_a_shell_completes_without_torch(typed, offered):
    words = typed.split()
    environment = os.environ | {
        "_CAPTUM_VIT_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([sys.executable, "-c", COMPLETING], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == offered, done.stderr
    assert done.stderr == "[]\n"


# --- doctor


@pytest.fixture
def timed(monkeypatch):
    monkeypatch.setattr("captum_vit.optvis.timing.seconds_of_batch", lambda vit, neurons, plan: 90.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)


def test_doctor_tells_versions_devices_plugins_extras_and_speed(timed, monkeypatch):
    installed = DOCTOR._installed
    monkeypatch.setattr(DOCTOR, "_installed", lambda name: None if name == "ray" else installed(name))
    result = run("doctor")
    assert result.exit_code == 0, result.output
    for words in (installed("torch"), installed("timm"), "the CPU is where commands compute", "families of models"):
        assert words in result.stdout
    assert 'not installed: pip install "captum-vit[ray]"' in result.stdout
    assert "about 2 min (recipe steady)" in result.stdout
    assert "Nothing is broken" in result.stdout


def test_doctor_says_that_a_busy_machine_is_slow_and_times_nothing(monkeypatch):
    monkeypatch.setattr("captum_vit.optvis.timing.seconds_of_batch", lambda *_: pytest.fail("it was timed"))
    monkeypatch.setattr(os, "getloadavg", lambda: (10_000.0, 0.0, 0.0), raising=False)
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "the machine is busy: load 10000.0" in result.stdout


def test_doctor_fails_where_something_is_broken(timed, monkeypatch):
    failure = Failure("captum-vit-broken", "broken", "ImportError: no module named nonsense")
    monkeypatch.setattr(registry(), "failures", [failure])
    result = run("doctor")
    assert result.exit_code == 1
    assert str(failure) in result.stdout
    assert "Nothing is broken" not in result.stdout


def test_doctor_knows_every_extra_and_every_embedded_model():
    settings = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    section = settings.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))
    assert extras - {"docs", "test"} == set(DOCTOR.EXTRAS)
    assert set(available()) <= set(import_module("captum_vit.cli.completion").models(""))
