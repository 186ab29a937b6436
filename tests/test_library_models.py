"""The libraries whose models are had by name: classes, weights, preprocessing and outputs are the libraries' own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from torch import nn

from captum_vit.errors import ModelNameError, WeightsError
from captum_vit.loading.build import build, sketch
from captum_vit.probes.preprocessing import Preprocessing

pytestmark = pytest.mark.usefixtures("no_network")

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


def saved(kind: str, folder: Path, **settings: object) -> nn.Module:
    """A small model of transformers at random weights, which is in the folder too."""
    torch.manual_seed(0)
    made = getattr(transformers, kind)
    model = made(made.config_class(**settings)).eval()
    model.save_pretrained(folder)
    return model


def read(preprocessing: object) -> Preprocessing:
    return Preprocessing.read(preprocessing)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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
