"""Small models with random weights, one for each structurally different kind of the six families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers import GluMlp, SwiGLU
from timm.models import vision_transformer
from timm.models.coat import CoaT
from timm.models.convit import ConVit
from timm.models.deit import VisionTransformerDistilled
from timm.models.pit import PoolingVisionTransformer
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from timm.models.twins import Twins
from timm.models.vision_transformer import VisionTransformer
from torch import nn


@dataclass(frozen=True)
class TinyModel:
    """How to build a small model, and the size in pixels of its input."""

    make: Callable[..., nn.Module]
    settings: dict[str, Any]
    image_size: tuple[int, int]

    def build(self, **changes: Any) -> nn.Module:
        """The model in eval mode; the same weights each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.make(**(self.settings | changes)).eval()
        for module in model.modules():
            # Swin V2 starts its normalizations at zero: its blocks would do nothing, and tests on them prove nothing.
            if isinstance(module, nn.LayerNorm) and not module.weight.any():
                nn.init.ones_(module.weight)
        return model


def plain(**settings: Any) -> TinyModel:
    return TinyModel(VisionTransformer, BASE | settings, (32, 32))


BASE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 5}
STAGES = {"img_size": 64, "patch_size": 4, "num_classes": 5, "embed_dims": (16, 32, 48, 64)}
PARALLEL = {"img_size": 64, "num_classes": 5, "embed_dims": (16, 24, 24, 24), "serial_depths": (1, 1, 1, 1)}
SWIN = {"img_size": 44, "patch_size": 4, "num_classes": 5, "embed_dim": 24, "window_size": 3}
POOLED = {"img_size": 64, "patch_size": 16, "stride": 8, "num_classes": 5, "base_dims": (12, 12, 12)}

TINY_MODELS: dict[str, TinyModel] = {
    "deit": plain(),
    "deit_distilled": TinyModel(VisionTransformerDistilled, BASE, (32, 32)),
    "vit_without_class_token": plain(class_token=False, global_pool="avg"),
    "vit_with_registers": plain(reg_tokens=4, dynamic_img_size=True, init_values=1e-1, no_embed_class=True),
    "vit_map_pooled": plain(class_token=False, global_pool="map"),
    "vit_swiglu": plain(mlp_layer=SwiGLU, act_layer=nn.SiLU),
    "vit_glu": plain(mlp_layer=partial(GluMlp, act_layer=nn.SiLU), act_layer=nn.SiLU),
    "vit_parallel_scaling": plain(block_fn=vision_transformer.ParallelScalingBlock),
    "vit_parallel_scaling_fused": plain(
        block_fn=partial(vision_transformer.ParallelScalingBlock, fuse_out_proj=True), qkv_bias=False
    ),
    "vit_parallel_differential": plain(block_fn=vision_transformer.DiffParallelScalingBlock, embed_dim=48),
    "vit_parallel_things": plain(block_fn=vision_transformer.ParallelThingsBlock),
    "vit_padded": plain(dynamic_img_size=True, dynamic_img_pad=True),
    "convit": TinyModel(ConVit, BASE | {"embed_dim": 8, "depth": 4, "local_up_to_layer": 2}, (32, 32)),
    "coat_lite": TinyModel(CoaT, STAGES | {"serial_depths": (1, 2, 1, 2), "mlp_ratios": (4, 4, 2, 2)}, (64, 64)),
    "coat": TinyModel(CoaT, PARALLEL | {"patch_size": 4, "parallel_depth": 2}, (64, 64)),
    "pit": TinyModel(PoolingVisionTransformer, POOLED | {"depth": (1, 2, 1), "heads": (1, 2, 4)}, (64, 64)),
    "pit_distilled": TinyModel(
        PoolingVisionTransformer, POOLED | {"depth": (1, 1, 1), "heads": (1, 2, 4), "distilled": True}, (64, 64)
    ),
    "swin": TinyModel(SwinTransformer, SWIN | {"depths": (2, 2, 1), "num_heads": (1, 2, 4)}, (44, 44)),
    "swin_v2": TinyModel(SwinTransformerV2, SWIN | {"depths": (2, 2), "num_heads": (1, 2)}, (44, 44)),
    "swin_v2_cr": TinyModel(SwinTransformerV2Cr, SWIN | {"depths": (2, 2), "num_heads": (1, 2)}, (44, 44)),
    "twins_pcpvt": TinyModel(
        Twins, STAGES | {"depths": (1, 1, 1, 2), "num_heads": (1, 2, 3, 4), "mlp_ratios": (2, 2, 2, 2)}, (64, 64)
    ),
    "twins_svt": TinyModel(
        Twins,
        STAGES | {"depths": (2, 1, 2, 1), "num_heads": (1, 2, 3, 4), "mlp_ratios": (2, 2, 2, 2), "wss": (4, 4, 2, 2)},
        (64, 64),
    ),
}

SIX_FAMILIES: dict[str, TinyModel] = {
    family: TINY_MODELS[name]
    for family, name in {
        "deit": "deit",
        "coat": "coat",
        "convit": "convit",
        "pit": "pit",
        "swin": "swin",
        "twins": "twins_svt",
    }.items()
}

# The embedded models of these families; the embedded ConvNets come besides.
SIX_LEARNED = tuple(f"{family}_micro" for family in SIX_FAMILIES)
