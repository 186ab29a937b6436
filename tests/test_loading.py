"""Models by name: what a name may be, what is told where there is none or no network, and the way to the neurons."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
import transformers
from torch import nn
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli
from captum_vit.cli.model import ModelChoice
from captum_vit.errors import ModelNameError, WeightsError
from captum_vit.loading.build import build, sketch
from captum_vit.loading.hub import hub

pytestmark = pytest.mark.usefixtures("no_network")


# --- names


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("torchvision:vit_b_17", 'no model "vit_b_17" among torchvision\'s; did you mean vit_b_16'),
        ("torchvision:vit_b_16/V9", 'no weights "V9"; it has IMAGENET1K_V1, IMAGENET1K_SWAG_E2E_V1'),
        ("open_clip:ViT-B-3", 'no model "ViT-B-3" among open_clip\'s; did you mean ViT-B-32'),
        ("open_clip:ViT-B-16-SigLIP/nope", 'no weights "nope"; it has webli'),
        ("timm:vit_tiny_patch16_22", "did you mean vit_tiny_patch16_224"),
        ("tim:vit_tiny_patch16_224", "did you mean timm:vit_tiny_patch16_224"),
        ("transformers:", "names no model"),
        (3, "the name of a model is a text"),
    ],
)
def test_a_wrong_name_is_refused_with_similar_ones(name, told):
    with pytest.raises(ModelNameError, match=re.escape(told)):
        captum_vit.load_model(name)


@pytest.mark.parametrize(
    ("library", "name", "install"),
    [
        ("transformers", "transformers:facebook/dinov2-small", r'pip install "captum-vit\[transformers\]"'),
        ("open_clip", "open_clip:ViT-B-32", r'pip install "captum-vit\[open-clip\]"'),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_how_to_install_it(library, name, install, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelNameError, match=f"needs the library {library}, which is not installed; {install}"):
        sketch(name)


def test_a_name_with_timms_scheme_is_the_name_alone():
    plain, full = (build(name, None, True).model for name in ("test_vit", "timm:test_vit"))
    assert same_weights(plain, full)
    assert ModelChoice("timm:test_vit").origin == ModelChoice("test_vit").origin
    assert ModelChoice("torchvision:vit_b_16").origin == {"name": "torchvision:vit_b_16", "weights": "published"}


def test_no_library_is_imported_for_another_ones_models():
    program = """
import captum_vit, sys
captum_vit.load_model("test_vit", random_weights=True)
print({"transformers", "open_clip"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- without a network


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("test_vit", ["--checkpoint FILE", "--random-weights"]),
        ("torchvision:vit_b_16", ["--checkpoint FILE", "--random-weights"]),
        ("open_clip:ViT-S-32-alt/nothing", ["it has none"]),
        ("open_clip:ViT-B-32/openai", ["--checkpoint FILE", "--random-weights"]),
        ("open_clip:ViT-B-32", ["open_clip:ViT-B-32/openai", "--checkpoint FILE"]),
        ("transformers:nobody/nothing", ["transformers:FOLDER"]),
        ("hf-hub:nobody/nothing", ["local-dir:FOLDER"]),
    ],
)
def test_where_weights_cannot_be_had_one_line_tells_the_ways_out(name, ways):
    with pytest.raises((ModelNameError, WeightsError)) as error:
        build(name)
    assert "\n" not in str(error.value)
    for way in ways:
        assert way in str(error.value)


def test_a_hub_that_does_not_answer_is_known_in_a_moment(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr("captum_vit.loading.hub.getproxies", dict)
        tried = []
        monkeypatch.setattr(time, "sleep", tried.append)  # which the hub's client does before it tries again
        with pytest.raises(ModelNameError, match="cannot be had from the hub"):
            sketch("transformers:nobody/nothing")
    assert not tried
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("by", ["itself", "a proxy"])
def test_a_hub_that_answers_is_asked(by, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", here if by == "itself" else "http://hub.invalid")
        monkeypatch.setattr("captum_vit.loading.hub.getproxies", lambda: {"http": here} if by == "a proxy" else {})
        with hub():
            assert not huggingface_hub.constants.HF_HUB_OFFLINE


# --- from the name to the neurons


@pytest.fixture
def timm_in_transformers(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A folder that transformers wrote, of a family that has an adapter."""
    config = {"architecture": "test_vit", "pretrained_cfg": timm.create_model("test_vit").pretrained_cfg}
    kind = transformers.TimmWrapperForImageClassification
    torch.manual_seed(0)
    model = kind(transformers.TimmWrapperConfig.from_dict(config | {"num_classes": 5})).eval()
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model", model


def test_load_model_gives_an_adapted_model_whose_output_is_one_tensor(timm_in_transformers):
    folder, model = timm_in_transformers
    vit = captum_vit.load_model(f"transformers:{folder}")
    images = torch.rand(1, 3, 160, 160)
    assert isinstance(vit, captum_vit.AdaptedModel)
    assert same_weights(vit.model, model)
    with torch.no_grad():
        # Of the model that was loaded: where its weights lie in memory, the last bit may depend on.
        assert torch.equal(vit(images), vit.model(images).logits)
    assert vit.patch_map(images, "blocks.1:3").shape == (1, 10, 10)


def test_load_model_of_an_embedded_model_is_load_adapted():
    vit = captum_vit.load_model("deit_micro")
    assert same_weights(vit.model, captum_vit.load("deit_micro"))


@pytest.mark.usefixtures("folder")
def test_the_commands_take_a_scheme_a_checkpoint_and_random_weights(timm_in_transformers):
    folder, _ = timm_in_transformers
    name = f"transformers:{folder}"
    assert "blocks.5" in run("sites", name)
    assert f"of {name} (random weights)" in run("card", name, "blocks.1:1", "--steps", 1, "--random-weights")
    run("render", name, "blocks.1:1", "--steps", 1, "--checkpoint", folder, "--out", "renders")
    settings = json.loads(Path("renders/blocks.1-1.json").read_text())["settings"]
    assert (settings["name"], settings["weights"]) == (name, str(folder))
    assert len(list(Path().glob("transformers-*-blocks.1-1-steady.png"))) == 1


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
