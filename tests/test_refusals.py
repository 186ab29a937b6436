"""Wrong words are refused before anything slow is imported: one line, code 2, and no torch in the process."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from inspect import isfunction
from types import GenericAlias, SimpleNamespace
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

from captum_vit import cli
from captum_vit.cli import words
from captum_vit.errors import ModelNameError, RecipeError
from captum_vit.loading.names import SCHEMES
from captum_vit.models import default_photos
from captum_vit.optvis.plan import DTYPES
from captum_vit.optvis.recipes import RECIPES
from captum_vit.plots import FORMATS
from captum_vit.probes.plugins import registry
from captum_vit.ranking.measure import REDUCTIONS
from captum_vit.ranking.relevance import TARGETS
from captum_vit.ranking.storage import SUFFIXES
from captum_vit.storage.files import PICTURES, RANKINGS

SLOW = ("torch", "timm", "matplotlib", "captum", "lucent", "numpy")
PROGRAM = f"""
import atexit, sys
atexit.register(lambda: print([name for name in {SLOW} if name in sys.modules]))
from captum_vit.cli import main
main()
"""
FOLDER, PHOTO = str(default_photos()[0].parent), str(default_photos()[0])
COMMANDS = {
    "card": ["card"],
    "gallery": ["gallery"],
    "render": ["render", "deit_micro", "blocks.1:1", "--out", "renders"],
    "patch-map": ["patch-map", "deit_micro", "blocks.1:1", PHOTO, "--out", "maps"],
    "attribute": ["attribute", "deit_micro", "blocks.1:1", PHOTO, "--out", "maps"],
    "top-images": ["top-images", "deit_micro", "--images", FOLDER, "--out", "top.safetensors"],
}
# The commands that take an option, the wrong word, and what is told.
WORDS = {
    "--device": (list(COMMANDS), "gpu", 'no device "gpu" here'),
    "--recipe": (["card", "gallery", "render"], "cake", 'no recipe "cake"; there are ghiasi2022, fourier'),
    "--dtype": (["card", "gallery", "render"], "int8", 'no dtype "int8"'),
    "--out": (["card", "gallery", "top-images"], "file.xyz", "file.xyz cannot be written in the format"),
    "--by": (["top-images"], "fame", 'rankings are not by "fame"; rank by activation, relevance'),
    "--reduction": (["top-images"], "sum", 'no reduction "sum"; there are: mean, max'),
}
CASES = [(*COMMANDS[name], option, word, told) for option, (names, word, told) in WORDS.items() for name in names]
MODELS = {
    "transformer:facebook/dinov2-small": "did you mean transformers:facebook/dinov2-small?",
    "open-clip:ViT-B-32": "did you mean open_clip:ViT-B-32?",
    "hub:vit_tiny": 'no scheme "hub" for the model hub:vit_tiny',
    "torchvision:": '"torchvision:" names no model; write torchvision:NAME',
    "facebook/dinov2-small": "transformers:facebook/dinov2-small, or hf-hub:facebook/dinov2-small",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[-3]}")
def test_a_wrong_word_is_refused_without_torch(case, tmp_path):
    *arguments, told = case
    refused_at_once(arguments, told, tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_scheme_is_refused_without_torch(name, tmp_path):
    refused_at_once(["sites", name], MODELS[name], tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_wrong_scheme(command, tmp_path):
    name, *rest = COMMANDS[command]
    refused_at_once([name, "tim:vit_tiny", *rest[1:]], "did you mean timm:vit_tiny?", tmp_path)


def refused_at_once(arguments, told, tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert done.stdout == "[]\n"
    assert not list(tmp_path.iterdir())


def test_the_words_are_those_of_the_modules_that_do_the_work():
    assert tuple(RECIPES) == words.RECIPES
    assert tuple(REDUCTIONS) == words.MEASURES
    assert [tuple(names) for names in REDUCTIONS.values()] == [words.REDUCTIONS, words.REDUCTIONS_OF_RELEVANCE]
    assert tuple(TARGETS) == words.TARGETS
    assert tuple(DTYPES) == words.DTYPES
    assert FORMATS is PICTURES
    assert set(SUFFIXES) == set(RANKINGS)
    assert set(registry().schemes()) == set(SCHEMES)


def test_what_checks_a_word_takes_nothing_that_python_3_10_mistakes_for_a_class():
    # Typer asks issubclass() of it, which list[str] there ends; list[str] | None and str do not.
    checks = [each for each in vars(words).values() if isfunction(each) and each.__module__ == words.__name__]
    taken = [hint for each in checks for name, hint in get_type_hints(each).items() if name != "return"]
    assert str in taken
    assert not any(isinstance(hint, GenericAlias) for hint in taken)


def test_where_plugins_are_installed_any_recipe_and_any_scheme_may_be_theirs(monkeypatch):
    # An entry point without a distribution is nobody's own.
    monkeypatch.setattr(words, "entry_points", lambda group: [EntryPoint("strange", "strange:recipes", group)])
    assert words.recipe("cake") == "cake"
    context = SimpleNamespace(command_path="captum-vit sites")
    assert words.model(context, "cake:lemon") == "cake:lemon"
    monkeypatch.undo()
    with pytest.raises(RecipeError):
        words.recipe("cake")
    with pytest.raises(ModelNameError):
        words.model(context, "cake:lemon")


def test_a_name_that_no_plugin_knows_either_is_one_line(folder, monkeypatch):
    monkeypatch.setattr(words, "entry_points", lambda group: [EntryPoint("strange", "strange:recipes", group)])
    result = CliRunner().invoke(cli.app, ["card", "--recipe", "cake"])
    assert result.exit_code == 2
    assert result.stderr.startswith('error: no recipe "cake"; there are ghiasi2022')
    assert not list(folder.iterdir())
