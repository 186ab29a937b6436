"""Models of transformers as people pass them: whole, with their heads and texts, to the tools that they use."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from captum.attr import IntegratedGradients, LayerConductance
from lucent.optvis import render as lucent
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

import captum_vit
from captum_vit import Preprocessing
from captum_vit.errors import PreprocessingWarning, UnsupportedModelError, ZeroAttributionWarning

SMALL = {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
VISION = SMALL | {"intermediate_size": 36}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
TEXT |= {"vocab_size": 50, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WORDS = torch.tensor([[1, 7, 9, 2], [1, 8, 6, 2]])
WITH_IMAGE = torch.tensor([[1, *[49] * 16, 2]] * 2)  # of 16 patches


@dataclass(frozen=True)
class Whole:
    """How to build a model, what it is called with, and which of its outputs is meant."""

    build: Callable[[], nn.Module]
    output: str
    inputs: Mapping[str, Tensor] | None = None  # None: the image, by its place


def depth_anything() -> nn.Module:
    backbone = hf.Dinov2Config(**SMALL, out_indices=[1, 2, 3], reshape_hidden_states=False)
    sizes = {"reassemble_hidden_size": 24, "neck_hidden_sizes": [8, 8, 8], "reassemble_factors": [2, 1, 0.5]}
    heads = {"fusion_hidden_size": 8, "head_hidden_size": 8}
    return hf.DepthAnythingForDepthEstimation(
        hf.DepthAnythingConfig(backbone_config=backbone, patch_size=8, **sizes, **heads)
    )


def upernet() -> nn.Module:
    stages = {"depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "embed_dim": 8, "window_size": 2}
    backbone = hf.SwinConfig(**stages, image_size=64, patch_size=2, out_features=[f"stage{i}" for i in (1, 2, 3, 4)])
    heads = {"hidden_size": 8, "pool_scales": [1, 2], "auxiliary_in_channels": 32, "num_labels": 4}
    return hf.UperNetForSemanticSegmentation(hf.UperNetConfig(backbone_config=backbone, **heads))


def segformer() -> nn.Module:
    stages = {"depths": [1, 2], "hidden_sizes": [8, 16], "num_attention_heads": [1, 2], "num_encoder_blocks": 2}
    stages |= {"sr_ratios": [2, 1], "patch_sizes": [7, 3], "strides": [4, 2], "mlp_ratios": [2, 2]}
    return hf.SegformerForSemanticSegmentation(hf.SegformerConfig(**stages, decoder_hidden_size=8, num_labels=4))


def sam() -> nn.Module:
    vision = SMALL | {"window_size": 3, "global_attn_indexes": [1], "output_channels": 16}
    prompt = {"hidden_size": 16, "image_size": 32, "patch_size": 8, "image_embedding_size": 4, "mask_input_channels": 4}
    mask = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
    config = hf.SamConfig(vision_config=vision | {"num_pos_feats": 8}, prompt_encoder_config=prompt)
    config.mask_decoder_config = type(config.mask_decoder_config)(**mask)
    return hf.SamModel(config)


def llava() -> nn.Module:
    text = hf.LlamaConfig(**TEXT, num_key_value_heads=2)
    settings = {"image_token_index": 49, "image_seq_length": 16, "vision_feature_layer": -2}
    return hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(vision_config=hf.CLIPVisionConfig(**VISION), text_config=text, **settings)
    )


def captioner() -> nn.Module:
    text = hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, bos_token_id=1, eos_token_id=2)
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(hf.ViTConfig(**VISION), text)
    return hf.VisionEncoderDecoderModel(config)


def clip(kind: str = "CLIPModel") -> nn.Module:
    return getattr(hf, kind)(hf.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=8))


def clipseg() -> nn.Module:
    decoder = {"extract_layers": [0, 1, 2], "reduce_dim": 8, "decoder_num_attention_heads": 2}
    config = hf.CLIPSegConfig(vision_config=VISION, text_config=TEXT, projection_dim=8, **decoder)
    return hf.CLIPSegForImageSegmentation(config)


def vit() -> nn.Module:
    return hf.ViTForImageClassification(hf.ViTConfig(**VISION, num_labels=5))


BOTH = {"input_ids": WORDS, "pixel_values": IMAGE}
WHOLE = {
    "ViT that classifies": Whole(vit, "logits"),
    "ViT that paints": Whole(
        lambda: hf.ViTForMaskedImageModeling(hf.ViTConfig(**VISION, encoder_stride=8)), "reconstruction"
    ),
    "DeiT with its teacher": Whole(
        lambda: hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**VISION, num_labels=5)), "logits"
    ),
    "BEiT with its words": Whole(
        lambda: hf.BeitForMaskedImageModeling(hf.BeitConfig(**VISION, vocab_size=9)), "logits"
    ),
    "DINOv2 that classifies": Whole(
        lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**SMALL, num_labels=5)), "logits"
    ),
    "CLIP that classifies": Whole(lambda: clip("CLIPForImageClassification"), "logits"),
    "CLIP's tower with its projection": Whole(
        lambda: hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**VISION, projection_dim=8)), "image_embeds"
    ),
    "YOLOS": Whole(
        lambda: hf.YolosForObjectDetection(hf.YolosConfig(**VISION | {"image_size": [32, 32]}, num_detection_tokens=5)),
        "logits",
    ),
    "Segformer": Whole(segformer, "logits"),
    "Depth Anything": Whole(depth_anything, "predicted_depth"),
    "UperNet with a Swin": Whole(upernet, "logits"),
    "SAM": Whole(sam, "pred_masks", {"pixel_values": IMAGE, "input_points": torch.full((2, 1, 1, 2), 9.0)}),
    "CLIP with both towers": Whole(clip, "logits_per_image", BOTH),
    "CLIPSeg": Whole(clipseg, "logits", BOTH),
    "captions of a ViT": Whole(captioner, "logits", {"pixel_values": IMAGE, "decoder_input_ids": WORDS}),
    "LLaVA": Whole(llava, "logits", {"input_ids": WITH_IMAGE, "pixel_values": IMAGE}),
}

pytestmark = pytest.mark.filterwarnings("ignore::captum_vit.errors.PreprocessingWarning")


@torch.no_grad()
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_model_gives_the_output_that_is_meant_and_its_maps_are_those_of_the_tower_in_it(name):
    torch.manual_seed(0)
    whole = WHOLE[name]
    model = whole.build().eval()
    args, kwargs = ((IMAGE,), {}) if whole.inputs is None else ((), dict(whole.inputs))
    expected = model(*args, **kwargs)[whole.output]
    adapted = captum_vit.adapt(model, output=whole.output)
    site = adapted.sites[1]
    seen: list[Tensor] = []
    hook = site.at.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    maps: list[Tensor] = []
    adapted.ffn[site.key].register_forward_hook(lambda module, inputs, output: maps.append(output))
    assert torch.equal(adapted(*args, **kwargs), expected)
    hook.remove()
    flat = maps[0].flatten(2).transpose(1, 2)
    activation = seen[0].flatten(1, -2)
    before = site.prefix_tokens
    assert torch.equal(flat, activation[:, before : before + flat.shape[1]])
    with adapted.collect([site.name]) as collected:
        adapted(*args, **kwargs)
    assert torch.equal(collected[site.name], maps[0])
    adapted.restore()


def test_weights_of_an_mae_are_refused_with_their_drawing_and_read_as_a_vit(tmp_path):
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    drawing = hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**VISION, **decoder, mask_ratio=0.0)).eval()
    with pytest.raises(
        UnsupportedModelError, match=r"random order, also with mask_ratio=0,.*transformers\.ViTModel\.from_pre"
    ):
        captum_vit.adapt(drawing)
    drawing.save_pretrained(tmp_path)
    model = hf.ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    noise = torch.arange(16.0).expand(2, -1)  # in which the order of patches is that of the image
    with torch.no_grad(), captum_vit.adapt(model) as adapted:
        torch.testing.assert_close(
            adapted(IMAGE).last_hidden_state, drawing.vit(IMAGE, noise=noise).last_hidden_state, rtol=1e-4, atol=1e-5
        )


def test_patches_of_a_convnets_features_are_refused():
    stages = {"depths": [1, 1, 1], "hidden_sizes": [8, 16, 32], "embedding_size": 8, "num_groups": 4}
    backbone = hf.BitConfig(**stages, layer_type="bottleneck", out_features=["stage1", "stage2", "stage3"])
    settings = VISION | {"is_hybrid": True, "backbone_featmap_shape": [1, 32, 2, 2], "neck_ignore_stages": [0, 1]}
    model = hf.DPTModel(hf.DPTConfig(**settings | {"patch_size": 16}, backbone_config=backbone)).eval()
    with pytest.raises(UnsupportedModelError, match="DPTViTHybridEmbeddings cuts patches from what a ConvNet makes"):
        captum_vit.adapt(model)


def test_the_last_blocks_patches_are_known_to_reach_no_logits():
    adapted = captum_vit.adapt(vit().eval(), output="logits")
    with pytest.warns(ZeroAttributionWarning, match=r"layers\.2"):
        adapted.layer(adapted.sites[-1].name)


@pytest.mark.filterwarnings("error::captum_vit.errors.ZeroAttributionWarning")
@pytest.mark.parametrize(
    "name", ["ViT that paints", "DINOv2 that classifies", "CLIP that classifies", "Depth Anything"]
)
def test_heads_that_read_the_last_blocks_patches_are_known_too(name):
    whole = WHOLE[name]
    adapted = captum_vit.adapt(whole.build().eval(), output=whole.output)
    assert not adapted.sites[-1].reaches_output, "as far as the tower alone can tell"
    maps: list[Tensor] = []
    adapted.layer(adapted.sites[-1].name).register_forward_hook(lambda module, args, output: maps.append(output))
    (gradient,) = torch.autograd.grad(adapted(IMAGE).sum(), maps)
    assert gradient.any()


@pytest.mark.parametrize("name", WHOLE)
def test_the_grids_of_a_whole_model_are_those_of_its_tower(name):
    adapted = captum_vit.adapt(WHOLE[name].build().eval())
    side = adapted.preprocessing.size[0]
    rows, columns = adapted.sites[0].grid.centres((side, side))
    assert rows.tolist() == columns.tolist()
    assert 0 <= rows.min() < rows.max() <= side


# Preprocessing


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"photo": 0, "[UNK]": 1}, unk_token="[UNK]"))
    return hf.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")


SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
PROCESSORS = {
    "ViT": lambda: hf.ViTImageProcessor(**SQUARE, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]),
    "CLIP": lambda: hf.CLIPImageProcessor(**CROPPED),
    "SigLIP": lambda: hf.SiglipImageProcessor(**SQUARE),
    "BiT": lambda: hf.BitImageProcessor(**CROPPED),
    "DeiT": lambda: hf.DeiTImageProcessor(**CROPPED),
    "Segformer": lambda: hf.SegformerImageProcessor(**SQUARE),
    "one that leaves colours": lambda: hf.ViTImageProcessor(**SQUARE, do_normalize=False),
    "one with another range": lambda: hf.ViTImageProcessor(**SQUARE, rescale_factor=1 / 127.5, image_mean=[1.0] * 3),
    "one of images and texts": lambda: hf.CLIPProcessor(hf.CLIPImageProcessor(**CROPPED), tokenizer()),
}
# Releases have a kind that computes with torch and one that does not, under names that changed.
PROCESSORS |= {
    kind: lambda kind=kind: getattr(hf, kind)(**SQUARE)
    for kind in ("ViTImageProcessorFast", "ViTImageProcessorPil", "SiglipImageProcessorFast", "SiglipImageProcessorPil")
    if kind in dir(hf)
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_images_are_normalized_as_the_processor_does_it(kind):
    processor = PROCESSORS[kind]()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = processor(images=pixels, return_tensors="pt")["pixel_values"]
    adapted = captum_vit.adapt(vit().eval(), preprocessing=processor)
    assert adapted.preprocessing.size == (32, 32)
    normalized = adapted.preprocessing.normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(normalized, expected, rtol=1e-4, atol=1e-4)


def test_one_number_for_all_channels_is_that_of_each():
    assert Preprocessing.read(SimpleNamespace(image_mean=0.5, image_std=0.25, size=32)) == Preprocessing(
        (32, 32), (0.5,) * 3, (0.25,) * 3
    )


def refused(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("this is not to be called")


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.mark.filterwarnings("error::captum_vit.errors.PreprocessingWarning")
def test_what_was_published_with_the_weights_is_read_once_and_without_a_network(tmp_path, no_network, monkeypatch):
    vit().save_pretrained(tmp_path)
    PROCESSORS["ViT"]().save_pretrained(tmp_path)
    adapted = captum_vit.adapt(hf.ViTForImageClassification.from_pretrained(tmp_path).eval())
    assert adapted.preprocessing == Preprocessing((32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    monkeypatch.setattr(hf.image_processing_utils.BaseImageProcessor, "get_image_processor_dict", refused)
    assert adapted.preprocessing.mean == (0.1, 0.2, 0.3)


@pytest.mark.filterwarnings("error::captum_vit.errors.PreprocessingWarning")
def test_what_was_published_with_a_model_of_images_and_texts_is_that_of_its_tower(tmp_path):
    clip().save_pretrained(tmp_path)
    PROCESSORS["CLIP"]().save_pretrained(tmp_path)
    adapted = captum_vit.adapt(hf.CLIPModel.from_pretrained(tmp_path).eval())
    assert adapted.preprocessing == Preprocessing.read(PROCESSORS["CLIP"]())


@pytest.mark.filterwarnings("default::captum_vit.errors.PreprocessingWarning")
@pytest.mark.parametrize("name", ["", "an-organization/a-model-that-is-not-here", "/no/such/folder"])
def test_colours_are_assumed_with_a_warning_where_nothing_was_published(name, no_network):
    model = vit().eval()
    model.config._name_or_path = name
    with pytest.warns(PreprocessingWarning, match=r"nothing with ViTModel tells the mean and standard deviation"):
        adapted = captum_vit.adapt(model)
    assert adapted.preprocessing == Preprocessing((32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert adapted.preprocessing.assumed


# Tools

TOOLS = {
    "a classifier": (vit, "logits"),
    "a tower": (lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION)), "pooler_output"),
}


@pytest.fixture(params=TOOLS)
def tower(request):
    torch.manual_seed(0)
    build, output = TOOLS[request.param]
    return lambda **settings: captum_vit.adapt(build().eval(), output=output, **settings)


def test_captum_attributes_its_output_and_its_neurons(tower):
    adapted = tower()
    name = adapted.sites[1].name
    conductance = LayerConductance(adapted, adapted.layer(name)).attribute(IMAGE, target=1, n_steps=3)
    assert conductance.shape == (2, 36, 4, 4)
    assert conductance.abs().sum() > 0
    for function, target in ((adapted, 1), (adapted.neuron(f"{name}:3"), None)):
        pixels = IntegratedGradients(function).attribute(IMAGE, target=target, n_steps=3)
        assert pixels.shape == IMAGE.shape
        assert pixels.abs().sum() > 0


def test_grad_cam_takes_the_probe_as_its_layer(tower):
    adapted = tower()
    with GradCAM(model=adapted, target_layers=[adapted.layer(adapted.sites[1].name)]) as cam:
        heat = cam(input_tensor=IMAGE, targets=[ClassifierOutputTarget(1)] * 2)
    assert heat.shape == (2, 32, 32)
    assert heat.max() > 0


def test_stock_lucent_renders_with_all_its_defaults(tower):
    adapted = tower(any_size=True)
    (image,) = lucent.render_vis(
        adapted, f"{adapted.sites[1].layer}:3", thresholds=(2,), show_image=False, progress=False
    )
    assert image.shape == (1, 128, 128, 3)
    assert image.std() > 0


def test_neurons_are_rendered_and_photos_ranked(tower):
    adapted = tower()
    address = f"{adapted.sites[1].name}:3"
    renders = captum_vit.render(adapted, [address], steps=2, progress=False)
    assert np.asarray(renders.images).shape == (1, 32, 32, 3)
    photos = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    best = captum_vit.top_images(adapted, photos, 1, progress=False).best(address)[0]
    means = adapted.patch_map(photos, address).mean(dim=(1, 2))
    assert best.index == means.argmax()


def test_a_model_of_timm_is_adapted_without_transformers():
    program = (
        "import sys, timm, captum_vit\n"
        "vit = captum_vit.adapt(timm.create_model('vit_tiny_patch16_224').eval())\n"
        "print(len(vit.sites), 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"12 False\s*", done.stdout)
