"""Transformers of torchvision, open_clip, OpenAI, Meta and Microsoft: each structure small, its sites by hand."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import open_clip
import pytest
import repositories
import timm
import torch
from conformance import (
    Case,
    Expected,
    Size,
    channels_first,
    channels_last,
    check_looks,
    check_maps,
    check_replacing,
    check_sites,
    tokens,
)
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenCLIPTower
from segment_anything.modeling import ImageEncoderViT
from timm.data.constants import IMAGENET_DEFAULT_MEAN, OPENAI_CLIP_MEAN
from torch import Tensor, nn
from torchvision import models
from torchvision.models.maxvit import MaxVit
from torchvision.models.swin_transformer import (
    PatchMerging,
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlock,
    SwinTransformerBlockV2,
)
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

import captum_vit
from captum_vit.errors import UnsupportedModelError
from captum_vit_adapters.original_code import OriginalCode


def seeded(build: Callable[..., nn.Module], *arguments: Any, **settings: Any) -> Callable[[], nn.Module]:
    """What builds a model in eval mode, each time with the same weights, none of which are zero."""

    def built() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build(*arguments, **settings).eval()
            for parameter in model.parameters():
                if not parameter.any():
                    nn.init.normal_(parameter, std=0.2)
        return model

    return built


def openai_clip() -> ModuleType:
    """``clip.model`` without its package, which imports the pkg_resources that setuptools has no more."""
    file = Path(importlib.util.find_spec("clip").origin).with_name("model.py")
    spec = importlib.util.spec_from_file_location("clip.model", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLIP = openai_clip()


def tokens_first(rows: int, columns: int) -> Callable[[Tensor], tuple[Tensor | None, Tensor]]:
    """``(1 + rows * columns, B, units)``."""

    def to_map(activation: Tensor) -> tuple[Tensor | None, Tensor]:
        return tokens(rows, columns, prefix=1)(activation.transpose(0, 1))

    return to_map


def windows(rows: int, columns: int, side: int) -> Callable[[Tensor], tuple[Tensor | None, Tensor]]:
    """``(B, windows, cells of a window, units)``, windows of ``side`` by ``side`` neighbours."""

    def to_map(activation: Tensor) -> tuple[Tensor | None, Tensor]:
        across = columns // side
        patch_map = activation.new_empty(len(activation), activation.shape[-1], rows, columns)
        for row in range(rows):
            for column in range(columns):
                window = row // side * across + column // side
                patch_map[:, :, row, column] = activation[:, window, row % side * side + column % side]
        return None, patch_map

    return to_map


def spread(rows: int, columns: int, side: int) -> Callable[[Tensor], tuple[Tensor | None, Tensor]]:
    """``(B, places in a window, windows, units)``: the same place of every window attends to one another."""

    def to_map(activation: Tensor) -> tuple[Tensor | None, Tensor]:
        return windows(rows, columns, side)(activation.transpose(1, 2))

    return to_map


def plain(
    count: int,
    units: int,
    grid: Size,
    to_map: Callable[[Tensor], tuple[Tensor | None, Tensor]],
    at: str,
    pooled: bool = False,
) -> dict[str, Expected]:
    """The sites of ``count`` blocks alike; ``at`` is ``NAME.LAYER`` with ``{}`` for the number, split at ``|``."""
    name, layer = at.split("|")
    return {
        name.format(i): Expected(
            f"{name}.{layer}".format(i), units, grid, to_map, reaches_output=pooled or i < count - 1
        )
        for i in range(count)
    }


TORCHVISION_VIT = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "mlp_dim": 24,
    "num_classes": 5,
}
STEM = [ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2)]
TORCHVISION_SWIN = {"patch_size": [4, 4], "embed_dim": 8, "num_heads": [1, 2], "window_size": [3, 3], "num_classes": 5}
SWIN_SITES = {
    "features.1.0": Expected("features.1.0.mlp.3", 32, (9, 13), channels_last),
    "features.1.1": Expected("features.1.1.mlp.3", 32, (9, 13), channels_last),
    "features.3.0": Expected("features.3.0.mlp.3", 64, (5, 7), channels_last),
}
MAXVIT = {
    "input_size": (64, 64),
    "stem_channels": 8,
    "partition_size": 4,
    "block_channels": [8, 16],
    "block_layers": [2, 1],
    "head_dim": 4,
    "stochastic_depth_prob": 0.0,
    "num_classes": 5,
}


def maxvit_sites() -> dict[str, Expected]:
    found = {}
    for layer, units, side in (
        (("blocks.0.layers.0"), 32, 16),
        ("blocks.0.layers.1", 32, 16),
        ("blocks.1.layers.0", 64, 8),
    ):
        grid, inside = (side, side), f"{layer}.layers"
        found[f"{inside}.MBconv"] = Expected(f"{inside}.MBconv.layers.conv_c", units, grid, channels_first)
        found[f"{inside}.window_attention"] = Expected(
            f"{inside}.window_attention.mlp_layer.3", units, grid, windows(side, side, 4)
        )
        found[f"{inside}.grid_attention"] = Expected(
            f"{inside}.grid_attention.mlp_layer.3", units, grid, spread(side, side, side // 4)
        )
    return found


TOWER = {
    "image_size": (32, 48),
    "patch_size": 8,
    "width": 16,
    "layers": 3,
    "heads": 2,
    "mlp_ratio": 2,
    "output_dim": 12,
}
RESBLOCKS = "transformer.resblocks.{}|mlp.c_proj"
TIMM = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5, "mlp_ratio": 2}


def whole(vision: dict[str, Any], **settings: Any) -> Callable[[], nn.Module]:
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    return seeded(open_clip.CLIP, 12, vision_cfg=vision, text_cfg=text, **settings)


CASES = {
    "torchvision ViT": Case(
        seeded(VisionTransformer, **TORCHVISION_VIT),
        (32, 32),
        plain(2, 24, (4, 4), tokens(4, 4, prefix=1), "encoder.layers.encoder_layer_{}|mlp.3"),
        "torchvision_vit",
    ),
    "torchvision ViT behind convolutions": Case(
        seeded(VisionTransformer, **TORCHVISION_VIT, conv_stem_configs=STEM),
        (32, 32),
        plain(2, 24, (4, 4), tokens(4, 4, prefix=1), "encoder.layers.encoder_layer_{}|mlp.3"),
        "torchvision_vit",
    ),
    "torchvision Swin": Case(
        seeded(
            SwinTransformer,
            **TORCHVISION_SWIN,
            depths=[2, 1],
            block=SwinTransformerBlock,
            downsample_layer=PatchMerging,
        ),
        (38, 54),
        SWIN_SITES,
        "torchvision_swin",
    ),
    "torchvision Swin V2": Case(
        seeded(
            SwinTransformer,
            **TORCHVISION_SWIN,
            depths=[2, 1],
            block=SwinTransformerBlockV2,
            downsample_layer=PatchMergingV2,
        ),
        (38, 54),
        SWIN_SITES,
        "torchvision_swin",
    ),
    "torchvision MaxViT": Case(seeded(MaxVit, **MAXVIT), (64, 64), maxvit_sites(), "torchvision_maxvit"),
    "open_clip ViT": Case(
        seeded(OpenCLIPTower, **TOWER),
        (32, 48),
        plain(3, 32, (4, 6), tokens(4, 6, prefix=1), RESBLOCKS),
        "open_clip",
    ),
    "open_clip ViT pooled by average": Case(
        seeded(OpenCLIPTower, **TOWER, pool_type="avg", final_ln_after_pool=True, no_ln_pre=True),
        (32, 48),
        plain(3, 32, (4, 6), tokens(4, 6, prefix=1), RESBLOCKS, pooled=True),
        "open_clip",
    ),
    "open_clip ViT pooled by attention": Case(
        seeded(OpenCLIPTower, **TOWER, attentional_pool=True, attn_pooler_queries=3, attn_pooler_heads=2),
        (32, 48),
        plain(3, 32, (4, 6), tokens(4, 6, prefix=1), RESBLOCKS, pooled=True),
        "open_clip",
    ),
    "open_clip ViT with norms inside its MLPs": Case(
        seeded(OpenCLIPTower, **TOWER, block_type="custom", scale_fc=True, qk_norm=True),
        (32, 48),
        plain(3, 32, (4, 6), tokens(4, 6, prefix=1), RESBLOCKS),
        "open_clip",
    ),
    "whole open_clip model": Case(
        whole({"image_size": (32, 48), "patch_size": 8, "width": 16, "layers": 2, "head_width": 8}),
        (32, 48),
        {
            name: Expected(f"visual.{site.at}", site.units, site.grid, site.to_map, reaches_output=site.reaches_output)
            for name, site in plain(2, 64, (4, 6), tokens(4, 6, prefix=1), RESBLOCKS).items()
        },
        "open_clip",
    ),
    "OpenAI's CLIP": Case(
        seeded(CLIP.VisionTransformer, 32, 8, 16, 3, 2, 12),
        (32, 32),
        plain(3, 64, (4, 4), tokens_first(4, 4), RESBLOCKS),
        "clip",
    ),
    "Segment Anything": Case(
        seeded(
            ImageEncoderViT,
            img_size=64,
            patch_size=8,
            embed_dim=16,
            depth=2,
            num_heads=2,
            out_chans=4,
            use_abs_pos=False,
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
        ),
        (64, 40),
        plain(2, 64, (8, 5), channels_last, "blocks.{}|mlp.lin2", pooled=True),
        "segment_anything",
    ),
    "DINO": Case(
        seeded(repositories.VisionTransformer),
        (32, 56),
        plain(3, 48, (4, 7), tokens(4, 7, prefix=1), "blocks.{}|mlp.fc2"),
        "dino",
    ),
    "DINOv2": Case(
        seeded(repositories.DinoVisionTransformer),
        (28, 42),
        plain(4, 48, (4, 6), tokens(4, 6, prefix=1), "blocks.{}|mlp.fc2"),
        "dinov2",
    ),
    "DINOv2 with registers, gated, in chunks": Case(
        seeded(repositories.DinoVisionTransformer, registers=4, chunks=2, gated=True),
        (28, 42),
        {
            name: Expected(f"{name}.mlp.w3", 48, (4, 6), tokens(4, 6, prefix=5), reaches_output=name != "blocks.1.3")
            for name in ("blocks.0.0", "blocks.0.1", "blocks.1.2", "blocks.1.3")
        },
        "dinov2",
    ),
    "DeiT III": Case(
        seeded(repositories.vit_models),
        (32, 48),
        plain(2, 48, (4, 6), tokens(4, 6, prefix=1), "blocks.{}|mlp.fc2"),
        "deit3",
    ),
    "DeiT with a distillation token": Case(
        seeded(repositories.DistilledVisionTransformer, img_size=(32, 48), **TIMM),
        (32, 48),
        plain(2, 32, (4, 6), tokens(4, 6, prefix=2), "blocks.{}|mlp.fc2"),
        "deit",
    ),
    "MAE fine-tuned by its class token": Case(
        seeded(repositories.FinetunedMAE, img_size=(32, 48), **TIMM),
        (32, 48),
        plain(2, 32, (4, 6), tokens(4, 6, prefix=1), "blocks.{}|mlp.fc2"),
        "deit",
    ),
    "MAE fine-tuned by its patches": Case(
        seeded(repositories.FinetunedMAE, global_pool=True, img_size=(32, 48), **TIMM),
        (32, 48),
        plain(2, 32, (4, 6), tokens(4, 6, prefix=1), "blocks.{}|mlp.fc2", pooled=True),
        "deit",
    ),
    "Swin's own code": Case(
        seeded(repositories.SwinTransformer),
        (32, 48),
        {
            "layers.0.blocks.0": Expected("layers.0.blocks.0.mlp.fc2", 24, (8, 12), tokens(8, 12)),
            "layers.0.blocks.1": Expected("layers.0.blocks.1.mlp.fc2", 24, (8, 12), tokens(8, 12)),
            "layers.1.blocks.0": Expected("layers.1.blocks.0.mlp.fc2", 48, (4, 6), tokens(4, 6)),
        },
        "swin_original",
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
pytestmark = pytest.mark.filterwarnings("ignore::captum_vit.errors.PreprocessingWarning")


@every_case
def test_sites_are_listed_as_they_are(case):
    check_sites(case)


@every_case
def test_maps_are_the_hidden_activation_and_outputs_stay(case):
    check_maps(case)


@every_case
def test_what_a_probe_returns_is_what_the_model_goes_on_with(case):
    check_replacing(case)


@every_case
def test_cells_look_where_their_grid_says(case):
    check_looks(case)


@torch.no_grad()
def test_a_whole_clip_model_is_mapped_by_whatever_passes_images_through_its_tower():
    model, images = CASES["whole open_clip model"].build(), torch.randn(2, 3, 32, 48)
    expected = captum_vit.adapt(model.visual)
    wanted = expected.patch_map(images, "transformer.resblocks.0:3")
    expected.restore()

    vit = captum_vit.adapt(model, output=0)
    assert torch.equal(vit.patch_map(images, "transformer.resblocks.0:3"), wanted)
    assert torch.equal(vit(images), model.encode_image(images, normalize=True))
    seen = []
    vit.layer("transformer.resblocks.0").register_forward_hook(
        lambda probe, args, patch_map: seen.append(patch_map[:, 3])
    )
    vit.model.encode_image(images)
    assert torch.equal(seen[0], wanted)


@torch.no_grad()
def test_openais_whole_clip_is_mapped_by_images_with_texts_and_its_tower_by_images():
    model = seeded(CLIP.CLIP, 12, 32, 2, 64, 8, 4, 8, 8, 1, 1)()
    images, texts = torch.randn(2, 3, 32, 32), torch.randint(8, (2, 4))
    vit = captum_vit.adapt(model)
    seen = []
    vit.layer("transformer.resblocks.0").register_forward_hook(
        lambda probe, args, patch_map: seen.append(patch_map[:, 3])
    )
    vit(images, texts)
    model.encode_image(images)
    vit.restore()
    wanted = captum_vit.adapt(model.visual).patch_map(images, "transformer.resblocks.0:3")
    assert len(seen) == 2
    assert all(torch.equal(patch_map, wanted) for patch_map in seen)


@torch.no_grad()
def test_coca_gives_its_tokens_so_its_last_block_reaches_the_output():
    tower = seeded(OpenCLIPTower, **TOWER, output_tokens=True)()
    vit = captum_vit.adapt(tower)
    assert [site.reaches_output for site in vit.sites] == [True] * 3
    pooled, patches = vit(torch.randn(1, 3, 32, 48))
    assert (pooled.shape, patches.shape) == ((1, 12), (1, 24, 16))


@pytest.mark.parametrize(
    ("name", "size", "family", "first"),
    [
        ("vit_base_patch16_siglip_224", 32, "deit", "blocks.0"),
        ("eva02_base_patch16_clip_224", 32, "eva", "blocks.0"),
        ("vit_relpos_medium_patch16_cls_224", 32, "vit_relpos", "blocks.0"),
        ("fastvit_mci0", 64, "fastvit", "stages.0.blocks.0"),
        ("vitamin_small_224", 64, "deit", "blocks.0"),
        ("convnext_tiny", 64, "convnext", "stages.0.blocks.0"),
    ],
)
def test_timm_towers_of_open_clip_are_served_by_timms_adapters(name, size, family, first):
    with torch.device("meta"):
        tower = TimmModel(name, 12, image_size=size, pool="", proj="linear").eval()
    with captum_vit.adapt(tower) as vit:
        assert (vit.family, vit.sites[0].name) == (family, first)
        maps = {}
        vit.layer(first).register_forward_hook(lambda probe, args, patch_map: maps.update({first: patch_map.shape}))
        pixels = tower.trunk.default_cfg["input_size"][-2:]
        tower(torch.empty(1, 3, *pixels, device="meta"))
    assert maps[first] == (1, vit.sites[0].units, *vit.sites[0].grid(pixels))


@torch.no_grad()
def test_blocks_of_open_clip_that_compute_on_tokens_first_are_read_so():
    tower = seeded(OpenCLIPTower, **TOWER)()
    images = torch.randn(2, 3, 32, 48)
    wanted = captum_vit.adapt(tower).patch_map(images, "transformer.resblocks.1:5")
    captum_vit.restore(tower)

    tower.transformer.batch_first = False
    for block in tower.transformer.resblocks:
        block.attn.batch_first = False
    found = captum_vit.adapt(tower).patch_map(images, "transformer.resblocks.1:5")
    torch.testing.assert_close(found, wanted)


def test_preprocessing_is_what_each_library_says():
    vit = captum_vit.adapt(seeded(VisionTransformer, **TORCHVISION_VIT)())
    assert (vit.preprocessing.size, vit.preprocessing.mean) == ((32, 32), IMAGENET_DEFAULT_MEAN)
    assert not vit.preprocessing.any_size
    with torch.device("meta"):
        v1, v2 = (captum_vit.adapt(models.get_model(name).eval()).preprocessing for name in ("swin_t", "swin_v2_t"))
        assert captum_vit.adapt(models.maxvit_t().eval()).preprocessing.size == (224, 224)
    assert (v1.size, v2.size, v1.any_size) == ((224, 224), (256, 256), True)
    assert captum_vit.adapt(CASES["OpenAI's CLIP"].build()).preprocessing.mean == OPENAI_CLIP_MEAN
    assert captum_vit.adapt(CASES["DINO"].build()).preprocessing == captum_vit.Preprocessing(
        (32, 32), IMAGENET_DEFAULT_MEAN, timm.data.constants.IMAGENET_DEFAULT_STD, any_size=True
    )
    assert captum_vit.adapt(CASES["Segment Anything"].build()).preprocessing.size == (64, 64)


def test_open_clip_records_preprocessing_with_the_models_that_it_makes():
    tower = seeded(OpenCLIPTower, **TOWER)()
    with pytest.warns(captum_vit.errors.PreprocessingWarning, match="nothing with VisionTransformer tells"):
        assert captum_vit.adapt(tower).preprocessing.mean == OPENAI_CLIP_MEAN
    captum_vit.restore(tower)

    tower.preprocess_cfg = {"size": (32, 48), "mode": "RGB", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = captum_vit.adapt(tower).preprocessing
    assert (told.size, told.mean, told.std) == ((32, 48), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_maes_pretraining_model_is_refused_as_it_shuffles_patches():
    with pytest.raises(UnsupportedModelError, match="random order, also with mask_ratio=0"):
        captum_vit.adapt(repositories.MaskedAutoencoderViT().eval())


def own_code() -> list[type[OriginalCode]]:
    kinds, found = [OriginalCode], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found += [kind] if "named" in vars(kind) else []
    return found


@pytest.mark.parametrize("adapter", own_code(), ids=lambda adapter: adapter.family)
def test_a_class_of_the_same_name_but_made_otherwise_is_not_claimed(adapter):
    for name in adapter.named:
        stranger = type(name, (nn.Module,), {})()
        stranger.patch_embed = repositories.PatchEmbed(32, 8, 16)
        assert not adapter().serves(stranger)


def note(shapes: dict[str, tuple[int, ...]], name: str, probe: nn.Module, args: object, patch_map: Tensor) -> None:
    shapes[name] = tuple(patch_map.shape)


@pytest.mark.parametrize("family", ["vit_", "swin_", "maxvit_"])
@torch.no_grad()
def test_every_registered_transformer_of_torchvision_adapts(family):
    names = [name for name in models.list_models(module=models) if name.startswith(family)]
    assert len(names) >= {"vit_": 5, "swin_": 6, "maxvit_": 1}[family]
    for name in names:
        with torch.device("meta"):
            model = models.get_model(name).eval()
        vit, shapes = captum_vit.adapt(model), {}
        mlps = [path for path, module in model.named_modules() if type(module).__name__ in ("MLPBlock", "MLP")]
        assert family == "maxvit_" or [f"{site.name}.mlp" for site in vit.sites] == mlps, name
        for site in vit.sites:
            assert isinstance(model.get_submodule(site.name), nn.Module), name
            vit.ffn[site.key].register_forward_hook(partial(note, shapes, site.name))
        vit(torch.empty(2, 3, *vit.preprocessing.size, device="meta"))
        assert list(shapes) == [site.name for site in vit.sites], name
        assert all(shapes[s.name] == (2, s.units, *s.grid(vit.preprocessing.size)) for s in vit.sites), name


def test_a_timm_towers_preprocessing_can_be_told_as_open_clip_records_it():
    with torch.device("meta"):
        tower = TimmModel("vit_base_patch16_siglip_224", 12, pool="", proj="linear").eval()
    told = {"size": (224, 224), "mode": "RGB", "mean": OPENAI_CLIP_MEAN, "std": (0.25, 0.25, 0.25)}
    vit = captum_vit.adapt(tower, preprocessing=told)
    assert (vit.preprocessing.mean, vit.preprocessing.std) == (OPENAI_CLIP_MEAN, (0.25, 0.25, 0.25))
