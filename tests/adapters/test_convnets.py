"""ConvNets of timm, torchvision, transformers and CLIP: what their blocks give, and what the last layers there read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from captum.attr import LayerConductance
from conformance import (
    Case,
    Expected,
    Size,
    channels_first,
    channels_last,
    check_maps,
    check_replacing,
    check_sites,
)
from lucent.optvis import render as lucent
from open_clip.modified_resnet import ModifiedResNet
from test_library_adapters import CLIP, note, seeded
from timm.layers import BlurPool2d, GroupNormAct
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.nfnet import NfCfg, NormFreeNet
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.res2net import Bottle2neck
from timm.models.resnest import ResNestBottleneck
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.resnetv2 import ResNetV2
from timm.models.rexnet import RexNet
from timm.models.senet import SENet, SEResNetBottleneck
from timm.models.sknet import SelectiveKernelBottleneck
from timm.models.vgg import VGG
from torch import nn
from torchvision import models
from torchvision.models import convnext, efficientnet, mobilenetv2, mobilenetv3, regnet, resnet

import captum_vit
from captum_vit.errors import GridError
from captum_vit.models import default_photos
from captum_vit.probes.grid import PatchGrid

SIZE = (64, 96)  # not square
HALVED = [(16, 24), (8, 12), (4, 6), (2, 3)]


def residual(
    names: Iterable[str], last: str, units: list[int], given: list[int], grids: list[Size]
) -> dict[str, Expected]:
    """Of each block what its last layer reads, named by that layer, and what the block gives, named by the block."""
    found = {}
    for name, read, gives, grid in zip(names, units, given, grids, strict=True):
        found[f"{name}.{last}"] = Expected(f"{name}.{last}", read, grid, channels_first)
        found[name] = Expected(name, gives, grid, channels_first, written=True)
    return found


def widening(blocks: dict[str, tuple[str, int, int, Size]], to_map: Any = channels_first) -> dict[str, Expected]:
    """Of each block what its last layer reads, named by the block, and what the block gives, named its output."""
    found = {}
    for name, (last, read, gives, grid) in blocks.items():
        found[name] = Expected(f"{name}.{last}", read, grid, to_map)
        found[f"{name}.output"] = Expected(name, gives, grid, channels_first, written=True)
    return found


def of_timm(block: type[nn.Module], width: int, **settings: Any) -> Callable[[], nn.Module]:
    return seeded(ResNet, block, (1, 1, 1, 1), channels=(width,) * 4, num_classes=5, **settings)


def mobilenet_v4() -> nn.Module:
    """A plain separable convolution, a universal inverted bottleneck, and one with squeeze and excitation."""
    blocks = [["ds_r1_k3_s1_c8"], ["uir_r1_a3_k5_s2_e4_c16"], ["ir_r1_k3_s2_e4_c16_se0.25"]]
    return EfficientNet(decode_arch_def(blocks), num_classes=5, num_features=16, stem_size=8, pad_type="same")


LAYERS = [f"layer{i}.0" for i in (1, 2, 3, 4)]
STAGES = [f"stages.{i}.blocks.0" for i in (0, 1)]
DEEP = {"stem_type": "deep", "stem_width": 8, "avg_down": True}
CONVNEXT = {
    "stages.0.blocks.0": ("mlp.fc2", 32, 8, (16, 24)),
    "stages.1.blocks.0": ("mlp.fc2", 64, 16, (8, 12)),
    "stages.1.blocks.1": ("mlp.fc2", 64, 16, (8, 12)),
    "stages.2.blocks.0": ("mlp.fc2", 64, 16, (4, 6)),
    "stages.3.blocks.0": ("mlp.fc2", 96, 24, (2, 3)),
}
SMALL_CONVNEXT = {"depths": (1, 2, 1, 1), "dims": (8, 16, 16, 24), "kernel_sizes": 3, "num_classes": 5}
MBCONV, FUSED = efficientnet.MBConvConfig, efficientnet.FusedMBConvConfig
MOBILE = mobilenetv3.InvertedResidualConfig
CLIP_RESNET = residual(LAYERS, "conv3", [8, 16, 32, 64], [32, 64, 128, 256], [(16, 16), (8, 8), (4, 4), (2, 2)])

CASES = {
    "ResNet of basic blocks": Case(
        of_timm(BasicBlock, 8), SIZE, residual(LAYERS, "conv2", [8] * 4, [8] * 4, HALVED), "resnet"
    ),
    "ResNet with a deep stem and blurring pools": Case(
        of_timm(Bottleneck, 8, **DEEP, aa_layer=BlurPool2d),
        SIZE,
        residual(LAYERS, "conv3", [8] * 4, [32] * 4, HALVED),
        "resnet",
    ),
    "Res2Net": Case(
        of_timm(Bottle2neck, 16, base_width=26, block_args={"scale": 4}),
        SIZE,
        residual(LAYERS, "conv3", [24] * 4, [64] * 4, HALVED),
        "resnet",
    ),
    "ResNeSt": Case(
        of_timm(ResNestBottleneck, 8, **DEEP, block_args={"radix": 2, "avd": True}),
        SIZE,
        residual(LAYERS, "conv3", [8] * 4, [32] * 4, HALVED),
        "resnet",
    ),
    "SK-ResNet": Case(
        of_timm(SelectiveKernelBottleneck, 16),
        SIZE,
        residual(LAYERS, "conv3", [16] * 4, [64] * 4, HALVED),
        "resnet",
    ),
    "torchvision ResNet": Case(
        seeded(resnet.ResNet, resnet.Bottleneck, [1, 1, 1, 1], width_per_group=4, num_classes=5),
        SIZE,
        residual(LAYERS, "conv3", [4, 8, 16, 32], [256, 512, 1024, 2048], HALVED),
        "resnet",
    ),
    "ResNet V2 with BiT's stem": Case(
        seeded(
            ResNetV2,
            (1, 1),
            channels=(16, 32),
            stem_chs=8,
            stem_type="fixed",
            num_classes=5,
            norm_layer=partial(GroupNormAct, num_groups=4),
        ),
        SIZE,
        residual(STAGES, "conv3", [8, 8], [16, 32], HALVED[:2]),
        "resnetv2",
    ),
    "SENet": Case(
        seeded(SENet, SEResNetBottleneck, (1, 1, 1, 1), 1, 4, inplanes=8, num_classes=5),
        SIZE,
        residual(LAYERS, "conv3", [64, 128, 256, 512], [256, 512, 1024, 2048], HALVED),
        "senet",
    ),
    "NFNet": Case(
        seeded(
            NormFreeNet,
            NfCfg(
                (1, 1, 1, 1),
                (16, 16, 32, 32),
                attn_layer="se",
                attn_kwargs={"rd_ratio": 0.5},
                extra_conv=True,
                stem_chs=16,
            ),
            num_classes=5,
        ),
        SIZE,
        residual([f"stages.{i}.0" for i in range(4)], "conv3", [8, 8, 16, 16], [16, 16, 32, 32], HALVED),
        "nfnet",
    ),
    "RegNet": Case(
        seeded(RegNet, RegNetCfg(4, 8, 12.8, 2.0, 4, se_ratio=0.25, stem_width=8), num_classes=5),
        SIZE,
        residual(["s1.b1", "s2.b1", "s3.b1", "s4.b1"], "conv3", [8, 16, 32, 64], [8, 16, 32, 64], HALVED),
        "regnet",
    ),
    "torchvision RegNet": Case(
        seeded(
            regnet.RegNet,
            regnet.BlockParams([1, 1], [8, 16], [4, 4], [1.0, 1.0], [2, 2], se_ratio=0.25),
            num_classes=5,
            stem_width=8,
        ),
        SIZE,
        residual([f"trunk_output.block{i}.block{i}-0" for i in (1, 2)], "f.c.0", [8, 16], [8, 16], HALVED[:2]),
        "torchvision_regnet",
    ),
    "CLIP's ResNet": Case(
        seeded(CLIP.ModifiedResNet, (1, 1, 1, 1), 12, 2, 64, 8), (64, 64), CLIP_RESNET, "clip_resnet"
    ),
    "open_clip ResNet": Case(seeded(ModifiedResNet, (1, 1, 1, 1), 12, 2, 64, 8), (64, 64), CLIP_RESNET, "clip_resnet"),
    "ConvNeXt": Case(seeded(ConvNeXt, **SMALL_CONVNEXT), SIZE, widening(CONVNEXT, channels_last), "convnext"),
    "ConvNeXt V2 of convolutions": Case(
        seeded(ConvNeXt, **SMALL_CONVNEXT, conv_mlp=True, use_grn=True, stem_type="overlap"),
        SIZE,
        widening(CONVNEXT),
        "convnext",
    ),
    "torchvision ConvNeXt": Case(
        seeded(
            convnext.ConvNeXt,
            [convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, None, 2)],
            layer_scale=0.5,
            num_classes=5,
        ),
        SIZE,
        widening(
            {
                "features.1.0": ("block.5", 32, 8, (16, 24)),
                "features.3.0": ("block.5", 64, 16, (8, 12)),
                "features.3.1": ("block.5", 64, 16, (8, 12)),
            },
            channels_last,
        ),
        "torchvision_convnext",
    ),
    "EfficientNet": Case(
        seeded(timm.create_model, "test_efficientnet", num_classes=5),
        SIZE,
        widening(
            {
                "blocks.1.0": ("conv_pwl", 64, 24, (16, 24)),
                "blocks.2.0": ("conv_pwl", 96, 32, (8, 12)),
                "blocks.3.0": ("conv_pwl", 128, 48, (4, 6)),
                "blocks.4.0": ("conv_pwl", 192, 64, (2, 3)),
            }
        ),
        "efficientnet",
    ),
    "MobileNet V4 with TensorFlow's padding": Case(
        seeded(mobilenet_v4),
        (72, 104),
        widening(
            {
                "blocks.0.0": ("conv_pw", 8, 8, (36, 52)),
                "blocks.1.0": ("pw_proj", 32, 16, (18, 26)),
                "blocks.2.0": ("conv_pwl", 64, 16, (9, 13)),
            }
        ),
        "efficientnet",
    ),
    "ReXNet": Case(
        seeded(RexNet, initial_chs=8, final_chs=16, depth_mult=0.1, num_classes=5),
        SIZE,
        widening(
            {
                "features.0": ("conv_pwl", 32, 8, (32, 48)),
                "features.1": ("conv_pwl", 48, 11, (16, 24)),
                "features.2": ("conv_pwl", 66, 13, (8, 12)),
                "features.3": ("conv_pwl", 78, 16, (4, 6)),
                "features.4": ("conv_pwl", 96, 19, (4, 6)),
                "features.5": ("conv_pwl", 114, 21, (2, 3)),
            }
        ),
        "rexnet",
    ),
    "torchvision EfficientNet": Case(
        seeded(
            efficientnet.EfficientNet,
            [FUSED(1, 3, 1, 8, 8, 1), FUSED(4, 3, 2, 8, 8, 1), MBCONV(4, 5, 2, 8, 16, 2, 1.0, 1.0)],
            0.0,
            num_classes=5,
            last_channel=16,
        ),
        SIZE,
        widening(
            {
                "features.2.0": ("block.1.0", 32, 8, (16, 24)),
                "features.3.0": ("block.3.0", 32, 16, (8, 12)),
                "features.3.1": ("block.3.0", 64, 16, (8, 12)),
            }
        ),
        "torchvision_efficientnet",
    ),
    "torchvision MobileNet V2": Case(
        seeded(mobilenetv2.MobileNetV2, 5, 0.25, [[1, 8, 1, 1], [3, 16, 2, 2]]),
        SIZE,
        widening(
            {
                "features.1": ("conv.1", 8, 8, (32, 48)),
                "features.2": ("conv.2", 24, 8, (16, 24)),
                "features.3": ("conv.2", 24, 8, (16, 24)),
            }
        ),
        "torchvision_efficientnet",
    ),
    "torchvision MobileNet V3": Case(
        seeded(
            mobilenetv3.MobileNetV3,
            [MOBILE(8, 3, 8, 8, True, "RE", 2, 1, 1), MOBILE(8, 5, 24, 16, False, "HS", 2, 1, 1)],
            16,
            num_classes=5,
        ),
        SIZE,
        widening({"features.1": ("block.2.0", 8, 8, (16, 24)), "features.2": ("block.2.0", 24, 16, (8, 12))}),
        "torchvision_efficientnet",
    ),
    "transformers' ResNet": Case(
        seeded(
            transformers.ResNetModel, transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2])
        ),
        SIZE,
        residual(
            [f"encoder.stages.{name}" for name in ("0.layers.0", "1.layers.0", "1.layers.1")],
            "layer.2.convolution",
            [4, 8, 8],
            [16, 32, 32],
            [(16, 24), (8, 12), (8, 12)],
        ),
        "transformers_resnet",
    ),
    "transformers' ConvNeXt V2": Case(
        seeded(
            transformers.ConvNextV2Model,
            transformers.ConvNextV2Config(num_stages=2, hidden_sizes=[8, 16], depths=[1, 2]),
        ),
        SIZE,
        widening(
            {
                "encoder.stages.0.layers.0": ("pwconv2", 32, 8, (16, 24)),
                "encoder.stages.1.layers.0": ("pwconv2", 64, 16, (8, 12)),
                "encoder.stages.1.layers.1": ("pwconv2", 64, 16, (8, 12)),
            },
            channels_last,
        ),
        "transformers_convnext",
    ),
    "VGG": Case(
        seeded(VGG, [8, "M", 16, "M", 16], num_classes=5, norm_layer=nn.BatchNorm2d),
        SIZE,
        {
            "features.2": Expected("features.2", 8, (64, 96), channels_first, written=True),
            "features.6": Expected("features.6", 16, (32, 48), channels_first, written=True),
            "features.10": Expected("features.10", 16, (16, 24), channels_first, written=True),
        },
        "vgg",
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
pytestmark = pytest.mark.filterwarnings("ignore::captum_vit.errors.PreprocessingWarning")


@every_case
def test_sites_are_listed_as_they_are(case):
    check_sites(case)


@every_case
def test_maps_are_what_blocks_give_and_last_layers_read_and_outputs_stay(case):
    check_maps(case)


@every_case
def test_what_a_probe_returns_is_what_the_model_goes_on_with(case):
    check_replacing(case)


# Norms and activation functions, which leave every value where it is.
POINTWISE = ("BatchNorm", "GroupNorm", "LayerNorm", "ReLU", "SiLU", "GELU", "Hardswish")


def evenly(model: nn.Module) -> nn.Module:
    """The model without what makes a cell look at some of its pixels more than at others like them."""
    for parameter in model.parameters():
        parameter.copy_(parameter.abs().mean(dim=(2, 3), keepdim=True) if parameter.ndim == 4 else parameter.abs())
    for layer in list(model.modules()):
        for name, child in layer.named_children():
            kind = type(child).__name__
            if isinstance(child, nn.MaxPool2d):
                setattr(layer, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
            elif any(word in kind for word in POINTWISE):
                child.forward = lambda values, **settings: values
    return model


@every_case
def test_the_gradient_of_a_cell_peaks_where_the_grid_says(case):
    with torch.no_grad():
        vit = captum_vit.adapt(evenly(case.build()))
    images = torch.rand(1, 3, *case.size, requires_grad=True)
    with vit.collect([site.name for site in vit.sites]) as maps:
        vit(images)
    for site in vit.sites:
        centres, (rows, columns) = site.grid.centres(case.size), site.grid(case.size)
        for row, column in {(rows // 2, columns // 3), (rows // 3, 2 * columns // 3)}:
            towards = torch.rand(site.units, generator=torch.Generator().manual_seed(row))
            looked = maps[site.name][0, :, row, column] @ towards
            (gradient,) = torch.autograd.grad(looked, images, retain_graph=True)
            seen = gradient[0].square().sum(dim=0)
            peak = (seen > 0.9 * seen.max()).nonzero().double().mean(dim=0) + 0.5
            for at, axis, cell in zip(peak, centres, (row, column), strict=True):
                assert abs(at - axis[cell]) < 0.75 * (axis[1] - axis[0]), (site.name, row, column)


def kinds(library: str) -> list[str]:
    """Registered ConvNets, one of those whose names differ in numbers only: the smallest."""
    if library == "timm":
        modules = ["convnext", "efficientnet", "hardcorenas", "mobilenetv3", "nfnet", "regnet", "res2net", "resnest"]
        modules += ["resnet", "resnetv2", "rexnet", "senet", "sknet", "vgg"]
        names = [name for module in modules for name in timm.list_models(module=module)]
    else:
        families = ("alexnet", "convnext", "efficientnet", "mobilenet", "res", "vgg", "wide_res")
        names = [name for name in models.list_models(module=models) if name.startswith(families)]
    first = {re.sub(r"\d+", "#", name): name for name in sorted(names, key=number, reverse=True)}
    return sorted(first.values())


def number(name: str) -> int:
    return int("".join(re.findall(r"\d", name)) or 0)


@pytest.mark.parametrize("part", range(2))
@torch.no_grad()
def test_registered_convnets_of_timm_adapt(part):
    names = kinds("timm")
    assert len(names) >= 130
    for name in names[part::10]:  # a fifth of them takes long enough
        with torch.device("meta"):
            model = timm.create_model(name).eval()
        height, width = model.default_cfg["input_size"][-2:]
        check_on_meta(name, model, (height, width if model.default_cfg["fixed_input_size"] else width + 32))


@torch.no_grad()
def test_registered_convnets_of_torchvision_adapt():
    names = kinds("torchvision")
    assert len(names) >= 17
    for name in names:
        with torch.device("meta"):
            check_on_meta(name, models.get_model(name).eval(), (224, 288))


def check_on_meta(name: str, model: nn.Module, size: Size) -> None:
    vit, shapes = captum_vit.adapt(model), {}
    for site in vit.sites:
        assert isinstance(model.get_submodule(site.name.removesuffix(".output")), nn.Module), name
        vit.ffn[site.key].register_forward_hook(partial(note, shapes, site.name))
    vit(torch.empty(2, 3, *size, device="meta"))
    assert len(vit.sites) >= 5, name
    assert list(shapes) == [site.name for site in vit.sites], name
    assert all(shapes[site.name] == (2, site.units, *site.grid(size)) for site in vit.sites), name


COMPARED = {
    "ResNet": ("layer3.0.conv2", "layer3.0"),
    "ConvNeXt": ("stages.1.blocks.1", "stages.1.blocks.1.output"),
}
MODELS = {"ResNet": "ResNet of basic blocks", "ConvNeXt": "ConvNeXt"}
compared = pytest.mark.parametrize(
    ("model", "site"), [(model, site) for model, sites in COMPARED.items() for site in sites]
)


def adapted(model: str) -> captum_vit.AdaptedModel:
    return captum_vit.adapt(CASES[MODELS[model]].build())


@torch.no_grad()
def test_images_of_any_size_are_taken_as_they_are():
    for model in MODELS:
        vit = adapted(model)
        assert vit.preprocessing.any_size
        assert vit.preprocessing.size == (224, 224)
        for size in ((33, 70), (128, 64)):
            assert vit.patch_map(torch.rand(1, 3, *size), f"{vit.sites[0].name}:3").shape[1:] == vit.sites[0].grid(size)
    clip = captum_vit.adapt(CASES["CLIP's ResNet"].build())
    assert (clip.preprocessing.size, clip.preprocessing.any_size) == ((64, 64), False)


@compared
def test_captums_layer_conductance_attributes_to_a_convnets_channels(model, site):
    vit, images = adapted(model), torch.rand(2, 3, *SIZE)
    effect = LayerConductance(vit, vit.layer(site)).attribute(images, target=1, n_steps=4)
    assert effect.shape == (2, vit.site(site).units, *vit.site(site).grid(SIZE))
    assert effect.abs().sum() > 0


@compared
def test_both_renderers_raise_a_convnets_unit(model, site):
    vit = adapted(model)
    with vit.collect([site]) as maps, torch.no_grad():
        vit(torch.rand(1, 3, 64, 64))
    unit = maps[site][0].mean(dim=(1, 2)).argmax().item()  # one that is not dead
    (rendered,) = captum_vit.render(vit, [f"{site}:{unit}"], steps=32, size=64, progress=False)
    assert rendered.image.shape == (64, 64, 3)
    assert rendered.activation > rendered.start

    layer = vit.site(site).layer
    settings = {"thresholds": (2,), "show_image": False, "progress": False}
    (ours,) = captum_vit.render_vis(vit, f"{layer}:{unit}", **settings)
    (theirs,) = lucent.render_vis(vit, f"{layer}:{unit}", **settings)
    assert ours.shape == theirs.shape == (1, 128, 128, 3)
    assert np.isfinite(ours).all()


@compared
def test_images_are_ranked_for_a_convnets_units(model, site):
    vit, photos = adapted(model), default_photos()[:3]
    top = captum_vit.top_images(vit, photos, k=2, sites=[site], progress=False)
    best, second = top.best(f"{site}:5")
    assert best.activation >= second.activation
    assert {best.path, second.path} < {str(photo) for photo in photos}


def test_a_padding_on_its_own_belongs_to_the_convolution_behind_it():
    apart = PatchGrid().through(nn.Sequential(nn.ZeroPad2d((2, 2, 1, 1)), nn.Conv2d(3, 4, (3, 5), 2)))
    together = PatchGrid().through(nn.Conv2d(3, 4, (3, 5), 2, padding=(1, 2)))
    for size in (SIZE, (65, 33)):
        assert apart(size) == together(size)
        assert all(map(np.allclose, apart.centres(size), together.centres(size)))
    with pytest.raises(GridError, match="ZeroPad2d pads one side more than the other"):
        PatchGrid().through(nn.ZeroPad2d((0, 1, 0, 1)))
