"""The embedded models, one declaration each: architecture, weights, checksum, input and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any

from torch import nn

from captum_vit.models.categories import CATEGORIES

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EmbeddedModel:
    """A small trained model that the package carries.

    Attributes
    ----------
    name
        The name it is loaded by.
    constructor
        What of timm makes it, a class or a function, as ``"module:name"``.
    settings
        Keyword arguments of that, besides ``num_classes``.
    sha256
        Checksum of the weights file, in hexadecimal.
    classes
        The categories that its head tells apart, in the order of the logits.
    input_size
        Channels, height and width in pixels.
    fixed_input_size
        Whether it takes images of no other size, as transformers with position embeddings do.
    mean, std
        Of the input's channels, for RGB in [0, 1].
    first_conv, classifier
        The modules that read the image and give the logits, as timm's configurations name them.
    folder
        Where its weights file is.
    """

    name: str
    constructor: str
    sha256: str
    classes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    input_size: tuple[int, int, int] = (3, 64, 64)
    fixed_input_size: bool = True
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    first_conv: str = "patch_embed.proj"
    classifier: str = "head"
    folder: Path = Path(__file__).parent

    @property
    def weights(self) -> Path:
        """The safetensors file of its weights."""
        return self.folder / f"{self.name}.safetensors"

    def build(self) -> nn.Module:
        """Make the model at random weights, in eval mode, with the configuration that timm's own models carry."""
        from timm.models import PretrainedCfg

        model: nn.Module = resolve_name(self.constructor)(num_classes=len(self.classes), **self.settings)
        config = PretrainedCfg(
            source="captum-vit",
            architecture=self.name,
            input_size=self.input_size,
            fixed_input_size=self.fixed_input_size,
            interpolation="bicubic",
            crop_pct=1.0,
            mean=self.mean,
            std=self.std,
            num_classes=len(self.classes),
            label_names=self.classes,
            first_conv=self.first_conv,
            classifier=self.classifier,
            license="apache-2.0",
            notes=("Distilled from DINOv2 ViT-S/14 on ImageNet photos, for research: see docs/models.md.",),
        ).to_dict()
        model.pretrained_cfg = model.default_cfg = config
        return model.eval()


_MODELS = (
    EmbeddedModel(
        name="deit_micro",
        constructor="timm.models.vision_transformer:VisionTransformer",
        settings={"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4},
        sha256="4bd53188ce4ec5532df10fe86801dfa300ab36bd2fb73836ea003e4023710dc7",
        classes=CATEGORIES,
    ),
    EmbeddedModel(
        name="coat_micro",
        constructor="timm.models.coat:CoaT",
        settings={
            "img_size": 64,
            "patch_size": 4,
            "embed_dims": (64, 80, 80, 80),
            "serial_depths": (1, 1, 1, 1),
            "parallel_depth": 2,
            "num_heads": 8,
            "mlp_ratios": (4, 4, 4, 4),
        },
        sha256="7556eecc33524460e517f2539bdc12f5c1b9cdbdcb33279517a2961806e4e384",
        classes=CATEGORIES,
        first_conv="patch_embed1.proj",
    ),
    EmbeddedModel(
        name="convit_micro",
        constructor="timm.models.convit:ConVit",
        # timm multiplies the width by the number of heads: 112.
        settings={
            "img_size": 64,
            "patch_size": 8,
            "embed_dim": 28,
            "depth": 6,
            "num_heads": 4,
            "local_up_to_layer": 4,
        },
        sha256="7efbb64d6dd732f3e85d26141aa46167a811966edfbe0459840c99e69afdb3a4",
        classes=CATEGORIES,
    ),
    EmbeddedModel(
        name="pit_micro",
        constructor="timm.models.pit:PoolingVisionTransformer",
        # Overlapping patches, as in all of timm's; timm multiplies each stage's base width by its number of heads.
        settings={
            "img_size": 64,
            "patch_size": 8,
            "stride": 4,
            "stem_type": "overlap",
            "base_dims": (24, 24, 24),
            "depth": (2, 3, 1),
            "heads": (2, 4, 8),
        },
        sha256="1ac4f0d197b6f2abc116a5cfb3b5402e02550e8223daca3b537d635f04df2455",
        classes=CATEGORIES,
        first_conv="patch_embed.conv",
    ),
    EmbeddedModel(
        name="swin_micro",
        constructor="timm.models.swin_transformer:SwinTransformer",
        settings={
            "img_size": 64,
            "patch_size": 4,
            "window_size": 4,
            "embed_dim": 64,
            "depths": (2, 4),
            "num_heads": (2, 4),
        },
        sha256="c33387f79d112a6079bbb6528075d5f954c94c2d6aace91656ed3ac887a3c714",
        classes=CATEGORIES,
        classifier="head.fc",
    ),
    EmbeddedModel(
        name="twins_micro",
        constructor="timm.models.twins:Twins",
        settings={
            "img_size": 64,
            "patch_size": 4,
            "embed_dims": (56, 112),
            "num_heads": (2, 4),
            "mlp_ratios": (4, 4),
            "depths": (2, 4),
            "sr_ratios": (4, 2),
            "wss": (4, 4),
        },
        sha256="7dcbe41a72a61d1bfcc86cf5fd6ddc2a73c8ee1b7669eff349e277bcaf638d66",
        classes=CATEGORIES,
        first_conv="patch_embeds.0.proj",
    ),
    EmbeddedModel(
        name="resnet_micro",
        constructor="timm.models.resnet:resnet18",
        settings={"layers": (2, 2, 2, 1), "channels": (32, 64, 112, 144)},
        sha256="91b18a7c1825d99098516a5b858a826eecd63ed15af644c6d5e10a77a7b09d04",
        classes=CATEGORIES,
        fixed_input_size=False,
        first_conv="conv1",
        classifier="fc",
    ),
    EmbeddedModel(
        name="convnext_micro",
        constructor="timm.models.convnext:ConvNeXt",
        settings={"depths": (1, 1, 4, 1), "dims": (40, 80, 128, 176)},
        sha256="054b825b6dcefd2f52473da174db20bab488d939719473c3c0fe7b62a55a591e",
        classes=CATEGORIES,
        fixed_input_size=False,
        first_conv="stem.0",
        classifier="head.fc",
    ),
)

MODELS: Mapping[str, EmbeddedModel] = MappingProxyType({model.name: model for model in _MODELS})
