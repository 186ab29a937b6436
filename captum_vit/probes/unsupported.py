"""What to do about a model that no adapter serves: its other name, if it has one, and the draft of an adapter."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from captum_vit.probes.adapter import Adapter

# Classes of other packages, by the beginning of their paths and their names; timm's class of the same architecture, and
# a model of it.
_ELSEWHERE = (
    (
        r"transformers\..*\.ViT(MAE|MSN|Model|For)",
        "vision_transformer.VisionTransformer",
        "vit_base_patch16_224",
    ),
    (r"transformers\..*\.DeiT", "vision_transformer.VisionTransformer", "deit_base_patch16_224"),
    (r"transformers\..*\.Dinov2", "vision_transformer.VisionTransformer", "vit_base_patch14_dinov2"),
    (r"transformers\..*\.Siglip", "vision_transformer.VisionTransformer", "vit_base_patch16_siglip_224"),
    (r"transformers\..*\.(CLIP|MetaClip)", "vision_transformer.VisionTransformer", "vit_base_patch16_clip_224"),
    (r"transformers\..*\.DINOv3ViT", "eva.Eva", "vit_base_patch16_dinov3"),
    (r"transformers\..*\.(Beit|Data2VecVision)", "beit.Beit", "beit_base_patch16_224"),
    (r"transformers\..*\.Swinv2", "swin_transformer_v2.SwinTransformerV2", "swinv2_tiny_window8_256"),
    (r"transformers\..*\.Swin(?!2SR)", "swin_transformer.SwinTransformer", "swin_tiny_patch4_window7_224"),
    (r"transformers\..*\.PvtV2", "pvt_v2.PyramidVisionTransformerV2", "pvt_v2_b2"),
    (r"transformers\..*\.Hiera", "hiera.Hiera", "hiera_tiny_224"),
    (r"transformers\..*\.Levit", "levit.Levit", "levit_256"),
    (r"transformers\..*\.Sam(?!2|HQ)", "vision_transformer_sam.VisionTransformerSAM", "samvit_base_patch16"),
    (r"torchvision\..*\.VisionTransformer", "vision_transformer.VisionTransformer", "vit_base_patch16_224"),
    (r"torchvision\..*\.SwinTransformer", "swin_transformer.SwinTransformer", "swin_tiny_patch4_window7_224"),
    (r"torchvision\..*\.MaxVit", "maxxvit.MaxxVit", "maxvit_tiny_tf_224"),
    (r"(open_clip|clip)\..*\.VisionTransformer", "vision_transformer.VisionTransformer", "vit_base_patch16_clip_224"),
    (r"segment_anything\..*\.ImageEncoderViT", "vision_transformer_sam.VisionTransformerSAM", "samvit_base_patch16"),
    (r".*\.DinoVisionTransformer", "vision_transformer.VisionTransformer", "vit_base_patch14_dinov2"),
    (r".*\.MaskedAutoencoderViT", "vision_transformer.VisionTransformer", "vit_base_patch16_224.mae"),
)


def advice(model: nn.Module, adapters: Iterable[Adapter]) -> str:
    """What the error of a model that no adapter serves says last, in whole sentences.

    Parameters
    ----------
    model
        The model.
    adapters
        Those that are installed: another name is told only if one of them serves it.
    """
    served = {kind if isinstance(kind, str) else path_of(kind) for adapter in adapters for kind in adapter.models}
    known = (
        f'The architecture of {path} is served as timm\'s: timm.create_model("{name}"), or another of its size, with '
        "the weights that timm publishes. "
        for path in dict.fromkeys(path_of(type(module)) for module in model.modules())
        for pattern, kind, name in _ELSEWHERE
        if re.match(pattern, path) and f"timm.models.{kind}" in served
    )
    return next(known, "") + (
        f"To adapt {path_of(type(model))} itself, draft an adapter with captum_vit.draft(model) or `captum-vit draft "
        "MODEL`, check it, and pass it: adapt(model, adapter=...)"
    )


def path_of(kind: type) -> str:
    """The path of a class, as ``Adapter.models`` takes it."""
    return f"{kind.__module__}.{kind.__qualname__}"
