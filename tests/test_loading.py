"""Models by name: each library's by its scheme, with its weights, its preprocessing and one tensor for an output."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError

import huggingface_hub.constants
import open_clip
import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli
from captum_vit.cli.model import ModelChoice
from captum_vit.errors import ModelNameError, WeightsError
from captum_vit.loading.build import build, sketch
from captum_vit.loading.hub import hub
from captum_vit.probes.preprocessing import Preprocessing

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SMALL_VISION = SMALL | {"image_size": 32, "patch_size": 8}
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
PROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
}


@pytest.fixture(autouse=True)
def _without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)


def saved(kind: str, folder: Path, **settings: object) -> nn.Module:
    """A small model of transformers at random weights, which is in the folder too."""
    torch.manual_seed(0)
    made = getattr(transformers, kind)
    model = made(made.config_class(**settings)).eval()
    model.save_pretrained(folder)
    return model


def read(preprocessing: object) -> Preprocessing:
    return Preprocessing.read(preprocessing)


# --- transformers

CLASSES = {
    "ViTForImageClassification": "logits",
    "ViTModel": "pooler_output",
    "Dinov2Model": "pooler_output",
    "DeiTForImageClassificationWithTeacher": "logits",
    "ViTMSNModel": "last_hidden_state",
    "IJepaModel": "last_hidden_state",
    "CLIPVisionModel": "pooler_output",
    "CLIPVisionModelWithProjection": "image_embeds",
}


@pytest.mark.parametrize(("kind", "output"), CLASSES.items())
def test_a_folder_of_transformers_gives_its_class_its_weights_and_its_output(kind, output, tmp_path):
    model = saved(kind, tmp_path, **SMALL_VISION)
    loaded = build(f"transformers:{tmp_path}")
    assert type(loaded.model) is type(model)
    assert loaded.output == output
    assert not loaded.model.training
    with torch.no_grad():
        assert torch.equal(loaded.model(IMAGES)[output], model(IMAGES)[output])


@pytest.mark.parametrize("kind", ["CLIPModel", "SiglipModel", "BlipModel", "CLIPForImageClassification"])
def test_of_a_model_of_images_and_texts_it_is_the_tower_that_sees_unless_that_classifies(kind, tmp_path):
    model = saved(kind, tmp_path, text_config=SMALL, vision_config=SMALL_VISION)
    loaded = build(f"transformers:{tmp_path}")
    classifies = kind.endswith("Classification")
    assert loaded.output == ("logits" if classifies else "pooler_output")
    with torch.no_grad():
        expected = (model if classifies else model.vision_model)(IMAGES)
        assert torch.equal(loaded.model(IMAGES)[loaded.output], expected[loaded.output])


def test_the_preprocessing_is_that_of_the_image_processor(tmp_path):
    saved("ViTModel", tmp_path, **SMALL_VISION)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    told = build(f"transformers:{tmp_path}").preprocessing
    assert read(told) == Preprocessing((32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("content", [None, {"image_processor_type": "ViTImageProcessor"}])
def test_without_what_an_image_processor_says_nothing_is_made_up(content, tmp_path):
    saved("ViTModel", tmp_path, **SMALL_VISION)
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    assert build(f"transformers:{tmp_path}").preprocessing is None


def test_random_weights_of_transformers_need_the_configuration_alone(tmp_path):
    saved("Dinov2Model", tmp_path, **SMALL_VISION)
    (tmp_path / "model.safetensors").unlink()
    first, second, other = (build(f"transformers:{tmp_path}", None, True, seed).model for seed in (1, 1, 2))
    assert same_weights(first, second)
    assert not same_weights(first, other)
    with pytest.raises(WeightsError, match="cannot be had from the hub"):
        build(f"transformers:{tmp_path}")


def test_weights_that_the_folder_lacks_are_an_error_and_never_random(tmp_path):
    model = saved("ViTForImageClassification", tmp_path, **SMALL_VISION)
    weights = {name: tensor for name, tensor in model.state_dict().items() if "classifier" not in name}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"no weights for classifier\.bias, and 2 are missing"):
        build(f"transformers:{tmp_path}")


def test_a_pooling_layer_without_weights_is_left_out(tmp_path):
    model = saved("ViTModel", tmp_path, **SMALL_VISION)
    weights = {name: tensor for name, tensor in model.state_dict().items() if "pooler" not in name}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = build(f"transformers:{tmp_path}")
    assert loaded.output == "last_hidden_state"
    with torch.no_grad():
        assert torch.equal(loaded.model(IMAGES).last_hidden_state, model(IMAGES).last_hidden_state)


@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_a_checkpoint_of_transformers_may_be_fine_tuned_to_other_classes(prefix, tmp_path):
    saved("ViTForImageClassification", tmp_path / "base", **SMALL_VISION)
    tuned = saved("ViTForImageClassification", tmp_path / "tuned", **SMALL_VISION, num_labels=7)
    weights = {prefix + name: tensor for name, tensor in tuned.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "tuned.ckpt")
    loaded = build(f"transformers:{tmp_path / 'base'}", tmp_path / "tuned.ckpt")
    with torch.no_grad():
        assert torch.equal(loaded.model(IMAGES).logits, tuned(IMAGES).logits)


def test_shards_that_transformers_wrote_are_a_checkpoint(tmp_path):
    model = saved("ViTModel", tmp_path / "base", **SMALL_VISION)
    with torch.no_grad():
        model.layernorm.weight.fill_(3)
    model.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert same_weights(build(f"transformers:{tmp_path / 'base'}", tmp_path / "shards").model, model)


STRANGE = "import os\nos.mkdir('pwned')\nclass Strange: pass\n"


@pytest.mark.parametrize("files", [{"config.json", "strange.py"}, {"pytorch_model.bin"}], ids=["a class", "a pickle"])
def test_no_code_in_a_folder_is_run(files, tmp_path, monkeypatch):
    saved("ViTModel", tmp_path / "model", **SMALL_VISION)
    (tmp_path / "model" / "model.safetensors").unlink()
    monkeypatch.chdir(tmp_path)
    if "config.json" in files:
        config = {
            "model_type": "strange",
            "auto_map": {"AutoConfig": "strange.Strange", "AutoModel": "strange.Strange"},
        }
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        (tmp_path / "model" / "strange.py").write_text(STRANGE)
    else:
        torch.save({"embeddings.cls_token": Exploit()}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises((ModelNameError, WeightsError)):
        build("transformers:model")
    assert not Path("pwned").exists()


class Exploit:
    """An object whose unpickling would make a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def test_a_model_of_texts_is_refused(tmp_path):
    saved("BertModel", tmp_path, **SMALL)
    with pytest.raises(ModelNameError, match="BertModel is no model of images alone"):
        sketch(f"transformers:{tmp_path}")


# --- torchvision and open_clip


@pytest.mark.parametrize(
    ("name", "size", "classes"),
    [("vit_b_16", 224, 1000), ("vit_b_16/IMAGENET1K_SWAG_E2E_V1", 384, 1000), ("swin_t", 224, 1000)],
)
def test_a_model_of_torchvision_is_made_for_its_weights(name, size, classes):
    loaded = sketch(f"torchvision:{name}")
    assert type(loaded.model).__module__.startswith("torchvision.models")
    assert read(loaded.preprocessing) == Preprocessing((size, size), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert loaded.model(torch.zeros(1, 3, size, size, device="meta")).shape == (1, classes)


def test_a_checkpoint_of_torchvision_may_be_fine_tuned_to_other_classes(tmp_path):
    tuned = torchvision.models.resnet18(num_classes=7).eval()
    torch.save({"model": {f"module.{name}": tensor for name, tensor in tuned.state_dict().items()}}, tmp_path / "w.pth")
    assert same_weights(build("torchvision:resnet18", tmp_path / "w.pth").model, tuned)


@pytest.mark.parametrize(
    ("name", "activation"), [("ViT-B-32/openai", "QuickGELU"), ("ViT-B-32/laion2b_s34b_b79k", "GELU")]
)
def test_a_tower_of_open_clip_has_the_activation_that_its_weights_were_trained_with(name, activation):
    loaded = sketch(f"open_clip:{name}")
    assert type(loaded.model.transformer.resblocks[0].mlp.gelu).__name__ == activation
    assert read(loaded.preprocessing).mean == open_clip.OPENAI_DATASET_MEAN


def test_the_preprocessing_of_open_clip_is_that_of_the_weights():
    told = read(sketch("open_clip:ViT-B-16-SigLIP/webli").preprocessing)
    assert told == Preprocessing((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("part", ["whole", "tower"])
def test_a_checkpoint_of_open_clip_is_the_whole_models_or_the_towers(part, tmp_path):
    torch.manual_seed(1)
    model = open_clip.create_model("ViT-S-32", pretrained_hf=False).eval()
    save_file((model if part == "whole" else model.visual).state_dict(), tmp_path / "w.safetensors")
    assert same_weights(build("open_clip:ViT-S-32", tmp_path / "w.safetensors").model, model.visual)


def test_a_folder_of_open_clip_gives_its_own_weights_and_preprocessing(tmp_path):
    torch.manual_seed(1)
    model = open_clip.create_model("ViT-S-32-alt", pretrained_hf=False).eval()
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config("ViT-S-32-alt"), "preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    loaded = build(f"open_clip:local-dir:{tmp_path}")
    assert same_weights(loaded.model, model.visual)
    assert read(loaded.preprocessing).mean == (0.1, 0.2, 0.3)


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
        began = time.monotonic()
        with pytest.raises(ModelNameError, match="cannot be had from the hub"):
            sketch("transformers:nobody/nothing")
    assert time.monotonic() - began < 3
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
    with torch.no_grad():
        assert torch.equal(vit(images), model(images).logits)
    assert vit.patch_map(images, "blocks.1:3").shape == (1, 10, 10)


def test_load_model_of_an_embedded_model_is_load_adapted():
    vit = captum_vit.load_model("deit_micro")
    assert same_weights(vit.model, captum_vit.load("deit_micro"))


@pytest.mark.usefixtures("folder")
def test_the_commands_take_a_scheme_a_checkpoint_and_random_weights(timm_in_transformers):
    folder, _ = timm_in_transformers
    name = f"transformers:{folder}"
    assert "blocks.5" in run("sites", name)
    assert f"of {name}" in run("card", name, "blocks.1:1", "--steps", 1)
    assert f"of {name} (random weights)" in run("card", name, "blocks.1:1", "--steps", 1, "--random-weights")
    run("render", name, "blocks.1:1", "--steps", 1, "--checkpoint", folder, "--out", "renders")
    settings = json.loads(Path("renders/blocks.1-1.json").read_text())["settings"]
    assert (settings["name"], settings["weights"]) == (name, str(folder))
    assert len(list(Path().glob("transformers-*-blocks.1-1*.png"))) == 2


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    a: dict[str, Tensor] = one.state_dict()
    b: dict[str, Tensor] = other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
