"""timm's further families: a small model with random weights of each structure, and what its sites are, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import timm
import torch
from conformance import (
    Case,
    Expected,
    channels_first,
    channels_last,
    check_looks,
    check_maps,
    check_replacing,
    check_sites,
    tokens,
)
from timm.models import deepseek_vit, efficientvit_mit, gemma4_vit, maxxvit, metaformer, qwen3_vit
from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.crossvit import CrossVit
from timm.models.davit import DaVit
from timm.models.edgenext import EdgeNeXt
from timm.models.efficientformer import EfficientFormer
from timm.models.efficientformer_v2 import EfficientFormerV2
from timm.models.efficientvim import EfficientViM
from timm.models.efficientvit_msra import EfficientVitMsra
from timm.models.eva import Eva
from timm.models.fasternet import FasterNet
from timm.models.fastvit import FastVit
from timm.models.focalnet import FocalNet
from timm.models.gcvit import GlobalContextVit
from timm.models.hiera import Hiera
from timm.models.hieradet_sam2 import HieraDet
from timm.models.iformer import IFormer
from timm.models.inception_next import MetaNeXt
from timm.models.levit import Levit
from timm.models.mambaout import MambaOut
from timm.models.mlp_mixer import MlpMixer, SpatialGatingBlock
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from timm.models.nest import Nest, deblockify
from timm.models.nextvit import NextViT
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.repvit import RepVit
from timm.models.sequencer import Sequencer2d
from timm.models.shvit import SHViT
from timm.models.starnet import StarNet
from timm.models.swiftformer import SwiftFormer
from timm.models.tiny_vit import TinyVit
from timm.models.tnt import TNT
from timm.models.visformer import Visformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from timm.models.vision_transformer_sam import VisionTransformerSAM
from timm.models.volo import VOLO
from timm.models.xcit import Xcit
from torch import Tensor, nn

import captum_vit

ToMap = Callable[[Tensor], tuple[Tensor | None, Tensor]]
Grid = tuple[int, int]


def made(make: Callable[..., nn.Module], *args: Any, **settings: Any) -> nn.Module:
    """A model, the same weights each time, and none of them at one value, so that every part of it tells."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(*args, **settings).eval()
        for parameter in model.parameters():
            if parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all():
                nn.init.normal_(parameter, std=0.5)
    return model


def case(
    family: str, size: Grid, sites: dict[str, Expected], make: Callable[..., nn.Module], *args: Any, **settings: Any
) -> Case:
    return Case(partial(made, make, *args, num_classes=5, **settings), size, sites, family)


def plain(
    units: int, grid: Grid, prefix: int = 0, last_reaches: bool = True, at: str = "mlp.fc2"
) -> dict[str, Expected]:
    """Two blocks of tokens."""
    return {
        f"blocks.{i}": Expected(
            f"blocks.{i}.{at}", units, grid, tokens(*grid, prefix), reaches_output=i == 0 or last_reaches
        )
        for i in range(2)
    }


def stages(
    *told: tuple[int, Grid], to_map: ToMap | None = None, at: str = "mlp.fc2", name: str = "stages.{}.blocks.0"
) -> dict[str, Expected]:
    """One block a stage, with so many units on such a grid; tokens where nothing else is told."""
    return {
        (block := name.format(i)): Expected(f"{block}.{at}", units, grid, to_map or tokens(*grid))
        for i, (units, grid) in enumerate(told)
    }


def one(name: str, at: str, units: int, grid: Grid, to_map: ToMap | None = None) -> dict[str, Expected]:
    return {name: Expected(f"{name}.{at}" if at else name, units, grid, to_map or tokens(*grid))}


def rolled(block: int) -> ToMap:
    """Tokens in mask units, put in order by timm's own means."""
    return lambda activation: (None, made(Hiera, num_classes=5, **HIERA).reroll(activation, block).permute(0, 3, 1, 2))


def blocks_of_nest(side: int) -> ToMap:
    """Blocks of an image, put together by timm's own means."""
    return lambda activation: (None, deblockify(activation, side).permute(0, 3, 1, 2))


def unfolded(grid: Grid, patch: int, place: Callable[[Tensor, int, int, int], Tensor]) -> ToMap:
    """Patches of cells, taken apart one by one; ``place`` picks (image, patch, cell within)."""

    def to_map(activation: Tensor) -> tuple[None, Tensor]:
        rows, columns = grid
        units = place(activation, 0, 0, 0).shape[0]
        patch_map = activation.new_empty(2, units, rows, columns)
        for image in range(2):
            for row in range(rows):
                for column in range(columns):
                    number = (row // patch) * (columns // patch) + column // patch
                    within = (row % patch) * patch + column % patch
                    patch_map[image, :, row, column] = place(activation, image, number, within)
        return None, patch_map

    return to_map


def maxvit(*kinds: str, conv: dict[str, Any] | None = None, no_block_attn: bool = False, **attention: Any) -> Any:
    attention = {"dim_head": 8, "window_size": (4, 4), "grid_size": (4, 4), "no_block_attn": no_block_attn} | attention
    return maxxvit.MaxxVitCfg(
        embed_dim=(16, 32),
        depths=(1, 1),
        block_type=kinds,
        stem_width=8,
        conv_cfg=maxxvit.MaxxVitConvCfg(**(conv or {})),
        transformer_cfg=maxxvit.MaxxVitTransformerCfg(**attention),
    )


def in_maxvit(part: str, at: str, to_map: ToMap, which: tuple[int, ...] = (0, 1)) -> dict[int, dict[str, Expected]]:
    told = {0: (64, (16, 24)), 1: (128, (8, 12))}
    return {i: one(f"stages.{i}.blocks.0{part}", at, *told[i], to_map) for i in which}


def in_order(*parts: dict[int, dict[str, Expected]]) -> dict[str, Expected]:
    return {name: site for i in (0, 1) for part in parts for name, site in part.get(i, {}).items()}


def in_mobilevit(
    first: tuple[int, ...], second: tuple[int, ...], *others: tuple[int, int, int], place: Any
) -> dict[str, Expected]:
    """Bottlenecks of two stages; then, for each stage, that of a bottleneck and of so many layers of a transformer."""
    sites = {}
    for stage, (grid, bottlenecks) in enumerate([((32, 64), first), ((16, 32), second)]):
        for i, units in enumerate(bottlenecks):
            sites |= one(f"stages.{stage}.{i}", "conv3_1x1.conv", units, grid, channels_first)
    for stage, (units, inner, depth) in enumerate(others, start=2):
        grid = (64 >> stage + 1, 128 >> stage + 1)
        sites |= one(f"stages.{stage}.0", "conv3_1x1.conv", units, grid, channels_first)
        for i in range(depth):
            sites |= one(f"stages.{stage}.1.transformer.{i}", "mlp.fc2", inner, grid, unfolded(grid, 2, place))
    return sites


BASE = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
HIERA = {"img_size": (64, 96), "embed_dim": 8, "stages": (1, 1, 1), "q_pool": 2, "mask_unit_size": (4, 4)}
HIERA |= {"mask_unit_attn": (True, False, False)}
LEVIT = {"img_size": (64, 96), "embed_dim": (16, 24), "key_dim": 8, "depth": (1, 1), "num_heads": (1, 2)}
LEVIT |= {"attn_ratio": (2, 2), "mlp_ratio": (2, 2)}
CROSSVIT = {"img_size": (48, 72), "patch_size": (12, 16), "embed_dim": (16, 24), "num_heads": (2, 2)}
CROSSVIT |= {"depth": ((1, 1, 0), (1, 1, 0)), "mlp_ratio": (2, 2, 1)}
MVIT = {"depths": (1, 1), "embed_dim": (8, 16), "num_heads": (1, 2), "stride_q": ((1, 1), (2, 2))}
FOUR = ((16, 24), (8, 12), (4, 6), (2, 3))  # the grids of four stages behind a stem of stride four
TOWER = {"embed_dim": 16, "depth": 2, "num_heads": 2}


def four(*units: int) -> list[tuple[int, Grid]]:
    return list(zip(units, FOUR, strict=True))


CASES: dict[str, Case] = {
    "eva02": case(
        "eva",
        (32, 48),
        plain(48, (4, 6), 1),
        Eva,
        **BASE,
        mlp_ratio=2,
        swiglu_mlp=True,
        scale_mlp=True,
        use_rot_pos_emb=True,
    ),
    "dinov3": case(
        "eva",
        (32, 40),
        plain(96, (4, 5), 5, last_reaches=False),
        Eva,
        **BASE,
        num_reg_tokens=4,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        dynamic_img_size=True,
        global_pool="token",
    ),
    "perception_encoder": case(
        "eva", (32, 48), plain(96, (4, 6), 1), Eva, **BASE, attn_type="rope", use_rot_pos_emb=True, global_pool="map"
    ),
    "beit": case("beit", (32, 48), plain(96, (4, 6), 1), Beit, **BASE, use_rel_pos_bias=True),
    "relpos": case("vit_relpos", (32, 48), plain(96, (4, 6)), VisionTransformerRelPos, **BASE),
    "relpos_token": case(
        "vit_relpos",
        (32, 48),
        plain(96, (4, 6), 1, last_reaches=False),
        VisionTransformerRelPos,
        **BASE,
        class_token=True,
        global_pool="token",
        rel_pos_type="bias",
    ),
    "sam": case(
        "sam", (32, 48), plain(96, (4, 6)), VisionTransformerSAM, **BASE, window_size=3, global_attn_indexes=(1,)
    ),
    "cait": case("cait", (32, 48), plain(96, (4, 6)), Cait, **BASE),
    "xcit": case("xcit", (40, 48), plain(96, (5, 6)), Xcit, **BASE | {"img_size": (40, 48)}),
    "mvitv2": case(
        "mvitv2",
        (48, 64),
        stages((32, (12, 16)), (64, (6, 8))),
        MultiScaleVit,
        MultiScaleVitCfg(**MVIT),
        img_size=(64, 64),  # square by construction, but images need not be
    ),
    "mvitv2_cls": case(
        "mvitv2",
        (48, 64),
        {
            f"stages.{i}.blocks.0": Expected(
                f"stages.{i}.blocks.0.mlp.fc2", units, grid, tokens(*grid, 1), reaches_output=i == 0
            )
            for i, (units, grid) in enumerate([(32, (12, 16)), (64, (6, 8))])
        },
        MultiScaleVit,
        MultiScaleVitCfg(**MVIT, use_cls_token=True),
        img_size=(64, 64),
    ),
    "davit": case(
        "davit",
        (34, 50),  # grids round up
        {
            **one("stages.0.blocks.0.spatial_block", "mlp.fc2", 32, (9, 13)),
            **one("stages.0.blocks.0.channel_block", "mlp.fc2", 32, (9, 13)),
            **one("stages.1.blocks.0.spatial_block", "mlp.fc2", 64, (5, 7)),
            **one("stages.1.blocks.0.channel_block", "mlp.fc2", 64, (5, 7)),
        },
        DaVit,
        depths=(1, 1),
        embed_dims=(8, 16),
        num_heads=(1, 2),
        window_size=3,
        named_blocks=True,
    ),
    "pvt_v2": case(
        "pvt_v2",
        (64, 96),
        stages(*four(16, 32, 48, 64)),
        PyramidVisionTransformerV2,
        depths=(1, 1, 1, 1),
        embed_dims=(8, 16, 24, 32),
        mlp_ratios=(2, 2, 2, 2),
    ),
    "naflexvit": case(
        "naflexvit",
        (32, 40),
        plain(96, (4, 5), 2),
        NaFlexVit,
        NaFlexVitCfg(patch_size=8, embed_dim=24, depth=2, num_heads=2, reg_tokens=2, global_pool="avg", fc_norm=True),
    ),
    "levit": case(
        "levit",
        (64, 96),
        {
            **one("stages.0.blocks.0", "mlp.ln2.linear", 32, (4, 6)),
            **one("stages.1.downsample", "mlp.ln2.linear", 48, (2, 3)),
            **one("stages.1.blocks.0", "mlp.ln2.linear", 48, (2, 3)),
        },
        Levit,
        **LEVIT,
    ),
    "levit_conv": case(
        "levit",
        (64, 96),
        {
            **one("stages.0.blocks.0", "mlp.ln2.linear", 32, (4, 6), channels_first),
            **one("stages.1.downsample", "mlp.ln2.linear", 48, (2, 3), channels_first),
            **one("stages.1.blocks.0", "mlp.ln2.linear", 48, (2, 3), channels_first),
        },
        Levit,
        **LEVIT,
        use_conv=True,
    ),
    "maxvit": case(
        "maxvit",
        (64, 96),
        in_order(
            in_maxvit(".conv", "conv3_1x1", channels_first),
            in_maxvit(".attn_block", "mlp.fc2", channels_last),
            in_maxvit(".attn_grid", "mlp.fc2", channels_last),
        ),
        maxxvit.MaxxVit,
        maxvit("M", "M", conv={"padding": "same"}, rel_pos_type="mlp"),
        img_size=(64, 96),
    ),
    "maxxvit": case(
        "maxvit",
        (64, 96),
        in_order(
            in_maxvit(".conv", "mlp.fc2", channels_first),
            in_maxvit(".attn_grid", "mlp.fc2", channels_first),
        ),
        maxxvit.MaxxVit,
        maxvit("M", "M", conv={"block_type": "convnext"}, no_block_attn=True, use_nchw_attn=True),
        img_size=(64, 96),
    ),
    "maxvit_parallel": case(
        "maxvit",
        (64, 96),
        in_order(
            in_maxvit(".conv.0", "conv3_1x1", channels_first),
            in_maxvit(".conv.1", "conv3_1x1", channels_first),
            in_maxvit(".attn", "mlp.fc2", channels_last),
        ),
        maxxvit.MaxxVit,
        maxvit("PM", "PM"),
        img_size=(64, 96),
    ),
    "coatnet": case(
        "maxvit",
        (64, 96),
        in_order(
            in_maxvit("", "conv3_1x1", channels_first, which=(0,)), in_maxvit("", "mlp.fc2", channels_first, which=(1,))
        ),
        maxxvit.MaxxVit,
        maxvit("C", "T"),
        img_size=(64, 96),
    ),
    "volo": case(
        "volo",
        (32, 48),
        {
            **one("network.0.0", "mlp.fc2", 48, (4, 6), channels_last),
            **one("network.2.0", "mlp.fc2", 72, (2, 3), channels_last),
        },
        VOLO,
        layers=(1, 1),
        img_size=(32, 48),
        stem_hidden_dim=8,
        embed_dims=(16, 24),
        num_heads=(2, 2),
        downsamples=(True, False),
        outlook_attention=(True, False),
    ),
    "hiera": case(
        "hiera",
        (64, 96),
        {
            **one("blocks.0", "mlp.fc2", 32, (16, 24), rolled(0)),
            **one("blocks.1", "mlp.fc2", 64, (8, 12), rolled(1)),
            **one("blocks.2", "mlp.fc2", 128, (4, 6), rolled(2)),
        },
        Hiera,
        **HIERA,
    ),
    "hieradet": case(
        "hieradet",
        (64, 96),
        {
            **one("blocks.0", "mlp.fc2", 32, (16, 24), channels_last),
            **one("blocks.1", "mlp.fc2", 64, (8, 12), channels_last),
            **one("blocks.2", "mlp.fc2", 128, (4, 6), channels_last),
            **one("blocks.3", "mlp.fc2", 128, (4, 6), channels_last),
        },
        HieraDet,
        embed_dim=8,
        stages=(1, 1, 2),
        q_pool=2,
        window_spec=(4, 2, 4),
        global_att_blocks=(3,),
    ),
    "tiny_vit": case(
        "tiny_vit",
        (48, 64),
        {
            **one("stages.0.blocks.0", "conv3.conv", 32, (12, 16), channels_first),
            **one("stages.1.blocks.0", "mlp.fc2", 64, (6, 8)),
        },
        TinyVit,
        embed_dims=(8, 16),
        depths=(1, 1),
        num_heads=(1, 2),
        window_sizes=(3, 4),
    ),
    "crossvit": case(
        "crossvit",
        (60, 80),  # not what it was built for: both branches resize it
        {
            f"blocks.{i}.blocks.{branch}.0": Expected(
                f"blocks.{i}.blocks.{branch}.0.mlp.fc2", units, grid, tokens(*grid, 1)
            )
            for i in (0, 1)
            for branch, units, grid in ((0, 32, (4, 6)), (1, 48, (2, 3)))
        },
        CrossVit,
        **CROSSVIT,
        img_scale=(1.0, 2 / 3),
    ),
    "crossvit_dagger": case(
        "crossvit",
        (48, 72),
        {
            f"blocks.{i}.blocks.{branch}.0": Expected(
                f"blocks.{i}.blocks.{branch}.0.mlp.fc2", units, grid, tokens(*grid, 1)
            )
            for i in (0, 1)
            for branch, units, grid in ((0, 32, (4, 6)), (1, 48, (2, 3)))
        },
        CrossVit,
        **CROSSVIT,
        img_scale=(1.0, 2 / 3),
        multi_conv=True,
        crop_scale=True,
    ),
    "fastvit": case(
        "fastvit",
        (64, 96),
        stages(*four(16, 32, 64, 128), to_map=channels_first),
        FastVit,
        layers=(1, 1, 1, 1),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"),
        embed_dims=(8, 16, 32, 64),
        mlp_ratios=(2, 2, 2, 2),
        pos_embs=(None, None, None, None),
    ),
    "fastvit_fused": case(
        "fastvit",
        (64, 96),
        stages(*four(16, 32, 64, 128), to_map=channels_first),
        FastVit,
        layers=(1, 1, 1, 1),
        embed_dims=(8, 16, 32, 64),
        mlp_ratios=(2, 2, 2, 2),
        inference_mode=True,
    ),
    "focalnet": case(
        "focalnet",
        (64, 96),
        stages((32, (16, 24)), (64, (8, 12)), to_map=channels_first, name="layers.{}.blocks.0"),
        FocalNet,
        embed_dim=8,
        depths=(1, 1),
        focal_levels=(2, 2),
        focal_windows=(3, 3),
        use_overlap_down=True,
    ),
    "nextvit": case(
        "nextvit",
        (60, 90),  # grids round up
        {
            **one("stages.0.blocks.0", "mlp.fc2", 288, (15, 23), channels_first),
            **one("stages.1.blocks.0", "mlp.fc2", 512, (8, 12), channels_first),
            **{
                name: site
                for i, units in enumerate((1152, 1152, 1152, 1152, 1024))
                for name, site in one(f"stages.2.blocks.{i}", "mlp.fc2", units, (4, 6), channels_first).items()
            },
            **one("stages.3.blocks.0", "mlp.fc2", 2048, (2, 3), channels_first),
        },
        NextViT,
        in_chans=3,
        stem_chs=(8, 8, 8),
        depths=(1, 1, 5, 1),  # of as many channels as the published ones, whatever one says
    ),
    "repvit": case(
        "repvit",
        (64, 96),
        {
            **one("stages.0.blocks.0", "channel_mixer.conv2.c", 16, (16, 24), channels_first),
            **one("stages.1.downsample.pre_block", "channel_mixer.conv2.c", 16, (16, 24), channels_first),
            **one("stages.1.downsample.ffn", "conv2.c", 32, (8, 12), channels_first),
            **one("stages.1.blocks.0", "channel_mixer.conv2.c", 32, (8, 12), channels_first),
        },
        RepVit,
        embed_dim=(8, 16),
        depth=(1, 1),
    ),
    "efficientvit_mit": case(
        "efficientvit_mit",
        (64, 96),
        {
            **one("stages.0.blocks.0", "main.point_conv.conv", 32, (16, 24), channels_first),
            **one("stages.1.blocks.0", "main.point_conv.conv", 64, (8, 12), channels_first),
            **one("stages.2.blocks.0", "main.point_conv.conv", 96, (4, 6), channels_first),
            **one("stages.2.blocks.1", "local_module.main.point_conv.conv", 96, (4, 6), channels_first),
        },
        efficientvit_mit.EfficientVit,
        widths=(8, 16, 24, 24),
        depths=(1, 1, 1, 1),
        head_dim=8,
        head_widths=(16, 16),
    ),
    "efficientvit_large": case(
        "efficientvit_mit",
        (64, 96),
        {
            **one("stages.0.blocks.0", "main.point_conv.conv", 128, (16, 24), channels_first),
            **one("stages.0.blocks.1", "main.point_conv.conv", 64, (16, 24), channels_first),
        },
        efficientvit_mit.EfficientVitLarge,
        widths=(8, 16),
        depths=(1, 1),
        head_dim=8,
        head_widths=(16, 16),
    ),
    "efficientvit_msra": case(
        "efficientvit_msra",
        (96, 128),
        {
            **one("stages.0.blocks.0.ffn0", "m.pw2.conv", 32, (6, 8), channels_first),
            **one("stages.0.blocks.0.ffn1", "m.pw2.conv", 32, (6, 8), channels_first),
            **one("stages.1.downsample.res1.1", "m.pw2.conv", 32, (6, 8), channels_first),
            **one("stages.1.downsample.res2.1", "m.pw2.conv", 64, (3, 4), channels_first),
            **one("stages.1.blocks.0.ffn0", "m.pw2.conv", 64, (3, 4), channels_first),
            **one("stages.1.blocks.0.ffn1", "m.pw2.conv", 64, (3, 4), channels_first),
        },
        EfficientVitMsra,
        img_size=96,
        embed_dim=(16, 32),
        key_dim=(4, 4),
        depth=(1, 1),
        num_heads=(2, 2),
        window_size=(3, 3),
        kernels=(3, 3),
        down_ops=(("", 1), ("subsample", 2)),
    ),
    "efficientformer": case(
        "efficientformer",
        (56, 56),  # attention is for 7 x 7 cells by construction
        {
            **one("stages.0.blocks.0", "mlp.fc2", 32, (14, 14), channels_first),
            **one("stages.1.blocks.0", "mlp.fc2", 64, (7, 7), channels_first),
            **one("stages.1.blocks.2", "mlp.fc2", 64, (7, 7)),
        },
        EfficientFormer,
        depths=(1, 2),
        embed_dims=(8, 16),
        num_vit=1,
    ),
    "efficientformer_v2": case(
        "efficientformer_v2",
        (128, 128),  # grids of attention are square by construction
        stages((32, (32, 32)), (64, (16, 16)), (64, (8, 8)), (96, (4, 4)), to_map=channels_first, at="mlp.fc2.conv"),
        EfficientFormerV2,
        depths=(1, 1, 1, 1),
        img_size=128,
        embed_dims=(8, 16, 16, 24),
        num_vit=1,
    ),
    "visformer": case(
        "visformer",
        (64, 96),
        {
            **one("stage1.0", "mlp.conv3", 16, (8, 12), channels_first),
            **one("stage2.0", "mlp.conv3", 64, (4, 6), channels_first),
            **one("stage3.0", "mlp.conv3", 128, (2, 3), channels_first),
        },
        Visformer,
        img_size=(64, 96),
        init_channels=8,
        embed_dim=16,
        depth=(1, 1, 1),
        num_heads=2,
        attn_stage="011",
        spatial_conv="100",
        group=2,
        embed_norm=nn.BatchNorm2d,
    ),
    "poolformer": case(
        "metaformer",
        (60, 90),
        stages((32, (15, 22)), (64, (8, 11)), to_map=channels_first),
        metaformer.MetaFormer,
        depths=(1, 1),
        dims=(8, 16),
        token_mixers=metaformer.Pooling,
        res_scale_init_values=(None, 1.0),
        use_mlp_head=False,
    ),
    "caformer": case(
        "metaformer",
        (60, 90),
        {
            **one("stages.0.blocks.0", "mlp.fc2", 32, (15, 22), channels_first),
            **one("stages.1.blocks.0", "mlp.fc2", 128, (8, 11)),
        },
        metaformer.MetaFormer,
        depths=(1, 1),
        dims=(8, 32),
        token_mixers=[metaformer.SepConv, metaformer.Attention],
        norm_layers=[metaformer.LayerNorm2dNoBias, metaformer.LayerNormNoBias],
        res_scale_init_values=(None, 1.0),
    ),
    "swiftformer": case(
        "swiftformer",
        (64, 96),
        {
            **one("stages.0.blocks.0", "pwconv2", 32, (16, 24), channels_first),
            **one("stages.0.blocks.1", "linear.fc2", 32, (16, 24), channels_first),
            **one("stages.1.blocks.0", "linear.fc2", 64, (8, 12), channels_first),
        },
        SwiftFormer,
        layers=[2, 1],
        embed_dims=[8, 16],
        downsamples=[False, True],
    ),
    "edgenext": case(
        "edgenext",
        (64, 96),
        {
            **one("stages.0.blocks.0", "mlp.fc2", 64, (16, 24), channels_last),
            **one("stages.1.blocks.0", "mlp.fc2", 128, (8, 12), channels_last),
            **one("stages.1.blocks.1", "mlp.fc2", 128, (8, 12), channels_last),
            **one("stages.2.blocks.0", "mlp.fc2", 128, (4, 6), channels_last),
            **one("stages.3.blocks.0", "mlp.fc2", 128, (2, 3), channels_last),
        },
        EdgeNeXt,
        dims=(16, 32, 32, 32),
        depths=(1, 2, 1, 1),
        global_block_counts=(0, 1, 0, 0),
        kernel_sizes=(3, 3, 3, 3),
        heads=(2, 2, 2, 2),
        d2_scales=(2, 2, 2, 2),
        use_pos_emb=(False, True, False, False),
    ),
    "edgenext_rw": case(
        "edgenext",
        (64, 96),
        {
            **one("stages.0.blocks.0", "mlp.fc2", 64, (16, 24), channels_last),
            **one("stages.1.blocks.0", "mlp.fc2", 128, (8, 12), channels_last),
            **one("stages.1.blocks.1", "mlp.fc2", 128, (8, 12), channels_last),
            **one("stages.2.blocks.0", "mlp.fc2", 128, (4, 6), channels_last),
            **one("stages.3.blocks.0", "mlp.fc2", 128, (2, 3), channels_last),
        },
        EdgeNeXt,
        dims=(16, 32, 32, 32),
        depths=(1, 2, 1, 1),
        global_block_counts=(0, 1, 0, 0),
        kernel_sizes=(3, 3, 3, 3),
        heads=(2, 2, 2, 2),
        d2_scales=(2, 2, 2, 2),
        use_pos_emb=(False, True, False, False),
        downsample_block=True,
        stem_type="overlap",
    ),
    "gcvit": case(
        "gcvit",
        (64, 96),
        {
            **one("stages.0.blocks.0", "mlp.fc2", 24, (16, 24), channels_last),
            **one("stages.0.blocks.1", "mlp.fc2", 24, (16, 24), channels_last),
            **one("stages.1.blocks.0", "mlp.fc2", 48, (8, 12), channels_last),
        },
        GlobalContextVit,
        img_size=(64, 96),
        window_ratio=(16, 16),
        embed_dim=8,
        depths=(2, 1),
        num_heads=(1, 2),
    ),
    "sequencer": case(
        "sequencer",
        (32, 48),
        stages((48, (4, 6)), (72, (2, 3)), to_map=channels_last, at="mlp_channels.fc2"),
        Sequencer2d,
        img_size=(32, 48),
        layers=(1, 1),
        patch_sizes=(8, 2),
        embed_dims=(16, 24),
        hidden_sizes=(4, 6),
        mlp_ratios=(3, 3),
    ),
    "nest": case(
        "nest",
        (64, 64),  # square by construction
        stages(*[(32, (16, 16)), (64, (8, 8))], to_map=blocks_of_nest(8), name="levels.{}.transformer_encoder.0"),
        Nest,
        img_size=64,
        num_levels=2,
        embed_dims=(8, 16),
        num_heads=(1, 2),
        depths=(1, 1),
        pad_type="same",
    ),
    "tnt": case(
        "tnt",
        (32, 48),
        {
            name: site
            for i in (0, 1)
            for name, site in {
                f"blocks.{i}.mlp_in": Expected(
                    f"blocks.{i}.mlp_in.fc2",
                    32,
                    (8, 12),
                    unfolded((8, 12), 4, lambda a, image, number, within: a[image * 6 + number, within]),
                ),
                f"blocks.{i}.mlp": Expected(f"blocks.{i}.mlp.fc2", 96, (2, 3), tokens(2, 3, 1), reaches_output=i == 0),
            }.items()
        },
        TNT,
        img_size=(32, 48),
        embed_dim=24,
        inner_dim=8,
        depth=2,
        num_heads_inner=2,
        num_heads_outer=2,
    ),
    "mixer": case(
        "mlp_mixer",
        (32, 48),
        plain(96, (4, 6), at="mlp_channels.fc2"),
        MlpMixer,
        img_size=(32, 48),
        patch_size=8,
        num_blocks=2,
        embed_dim=24,
    ),
    "gmlp": case(
        "mlp_mixer",
        (32, 48),
        plain(48, (4, 6), at="mlp_channels.fc2"),
        MlpMixer,
        img_size=(32, 48),
        patch_size=8,
        num_blocks=2,
        embed_dim=24,
        block_layer=SpatialGatingBlock,
        mlp_ratio=4,
        mlp_layer=timm.layers.GatedMlp,
    ),
    "inception_next": case(
        "inception_next",
        (64, 96),
        stages((32, (16, 24)), (64, (8, 12)), to_map=channels_first),
        MetaNeXt,
        depths=(1, 1),
        dims=(8, 16),
        mlp_ratios=(4, 4),
    ),
    "mambaout": case(
        "mambaout",
        (60, 90),
        stages((16, (15, 23)), (32, (8, 12)), to_map=channels_last, at="fc2"),
        MambaOut,
        depths=(1, 1),
        dims=(8, 16),
        expansion_ratio=2,
    ),
    "shvit": case(
        "shvit",
        (64, 96),
        {
            **one("stages.0.blocks.0", "ffn.m.pw2.c", 32, (4, 6), channels_first),
            **one("stages.1.downsample.1", "m.pw2.c", 32, (4, 6), channels_first),
            **one("stages.1.downsample.4", "m.pw2.c", 48, (2, 3), channels_first),
            **one("stages.1.blocks.0", "ffn.m.pw2.c", 48, (2, 3), channels_first),
        },
        SHViT,
        embed_dim=(16, 24),
        partial_dim=(4, 6),
        qk_dim=(4, 4),
        depth=(1, 1),
        types=("i", "s"),
    ),
    "starnet": case(
        "starnet",
        (64, 96),
        stages((32, (16, 24)), (64, (8, 12)), to_map=channels_first, at="g.conv", name="stages.{}.1"),
        StarNet,
        base_dim=8,
        depths=[1, 1],
    ),
    "fasternet": case(
        "fasternet",
        (64, 96),
        stages((16, (16, 24)), (32, (8, 12)), to_map=channels_first, at="mlp.3"),
        FasterNet,
        embed_dim=8,
        depths=(1, 1),
        feature_dim=16,
    ),
    "iformer": case(
        "iformer",
        (64, 96),
        {
            **one("stages.0.blocks.0", "mixer.module.3.c", 24, (16, 24), channels_first),
            **one("stages.1.blocks.2", "mixer.module.2.c", 32, (8, 12), channels_first),
            **one("stages.1.blocks.3", "mixer.module.3.c", 48, (8, 12), channels_first),
        },
        IFormer,
        dims=(8, 16),
        depths=(1, 4),
        attn_groups=(0, 1),
        attn_head_dim_reduction=(0, 2),
    ),
    "efficientvim": case(
        "efficientvim",
        (64, 96),
        stages((128, (4, 6)), (192, (2, 3)), to_map=channels_first, at="ffn.fc2.conv"),
        EfficientViM,
        embed_dim=(32, 48),
        depths=(1, 1),
        state_dim=(9, 4),
    ),
    "deepseek_vit": case(
        "language_tower_classifier",
        (32, 48),
        {f"encoder.{name}": replace(site, at=f"encoder.{site.at}") for name, site in plain(32, (4, 6)).items()},
        deepseek_vit.DeepseekVitClassifier,
        img_size=32,
        patch_size=8,
        **TOWER,
        mlp_ratio=2,
    ),
    "qwen3_vit": Case(
        partial(
            made,
            qwen3_vit.Qwen3VitEncoder,
            img_size=32,
            patch_size=8,
            out_features=24,
            **TOWER,
            mlp_ratio=2,
            pos_embed_grid_size=4,
        ),
        (32, 48),
        plain(32, (4, 6)),
        "language_tower",
    ),
    "gemma4_vit": Case(
        partial(
            made,
            gemma4_vit.Gemma4VitEncoder,
            img_size=(32, 48),
            patch_size=8,
            global_pool="avg",
            **TOWER,
            head_dim=8,
            intermediate_size=32,
        ),
        (32, 48),
        plain(32, (4, 6), at="mlp.down_proj.linear"),
        "language_tower",
    ),
    "mobilevit": Case(
        partial(made, timm.create_model, "mobilevit_xxs", num_classes=5),
        (64, 128),
        in_mobilevit(
            (32,),
            (32, 48, 48),
            (48, 128, 2),
            (96, 160, 4),
            (128, 192, 3),
            place=lambda a, n, patch, cell: a[n * 4 + cell, patch],
        ),
        "mobilevit",
    ),
    "mobilevit_v2": Case(
        partial(made, timm.create_model, "mobilevitv2_050", num_classes=5),
        (64, 128),
        in_mobilevit(
            (32,),
            (64, 128),
            (128, 128, 2),
            (256, 192, 4),
            (384, 256, 3),
            place=lambda a, n, patch, cell: a[n, :, cell, patch],
        ),
        "mobilevit",
    ),
}


# Where LeViT downsamples, cells come through attention alone, which mixes them all.
ORDERED = [name for name in CASES if not name.startswith("levit")]

# These were built for images of one size, or of no larger one (MViT v2); CrossViT resizes others.
FIXED = {
    *("beit", "cait", "coatnet", "crossvit", "crossvit_dagger", "efficientformer", "efficientformer_v2", "eva02"),
    *("gcvit", "gemma4_vit", "gmlp", "hiera", "levit", "levit_conv", "maxvit", "maxvit_parallel", "maxxvit", "mixer"),
    *("mvitv2", "mvitv2_cls", "nest", "perception_encoder", "relpos", "relpos_token", "tnt", "visformer", "volo"),
}


@pytest.mark.parametrize("name", CASES)
def test_sites_are_listed(name):
    check_sites(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_maps_are_the_hidden_activation_and_outputs_the_models_own(name):
    check_maps(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_model_goes_on_with_what_a_probe_returns(name):
    check_replacing(CASES[name])


@pytest.mark.parametrize("name", ORDERED)
def test_each_cell_looks_where_its_grid_says(name):
    check_looks(CASES[name], cells=8)


@pytest.mark.parametrize("name", CASES)
def test_models_tell_whether_they_take_images_of_any_size(name):
    with captum_vit.adapt(CASES[name].build()) as vit:
        assert vit.preprocessing.any_size == (name not in FIXED)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CASES if name not in FIXED])
def test_models_of_any_size_take_another_one(name):
    size = (128, 192)
    with captum_vit.adapt(CASES[name].build()) as vit:
        maps = [vit.patch_map(torch.randn(1, 3, *size), site.address(0)) for site in vit.sites]
        assert [tuple(patch_map.shape) for patch_map in maps] == [(1, *site.grid(size)) for site in vit.sites]
