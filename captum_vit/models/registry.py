"""The embedded models, one declaration each: architecture, weights, checksum, input and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any

from torch import nn

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EmbeddedModel:
    """A small trained model that the package carries.

    Attributes
    ----------
    name
        The name it is loaded by.
    timm_class
        The class in timm that it is an instance of, as ``"module:class"``.
    settings
        Keyword arguments of that class, besides ``num_classes``.
    sha256
        Checksum of the weights file, in hexadecimal.
    classes
        The photos that its head tells apart, in the order of the logits.
    input_size
        Channels, height and width in pixels.
    mean, std
        Of the input's channels, for RGB in [0, 1].
    folder
        Where its weights file is.
    """

    name: str
    timm_class: str
    sha256: str
    classes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    input_size: tuple[int, int, int] = (3, 64, 64)
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    folder: Path = Path(__file__).parent

    @property
    def weights(self) -> Path:
        """The safetensors file of its weights."""
        return self.folder / f"{self.name}.safetensors"

    def build(self) -> nn.Module:
        """Make the model at random weights, in eval mode, with the configuration that timm's own models carry."""
        from timm.models import PretrainedCfg

        model: nn.Module = resolve_name(self.timm_class)(num_classes=len(self.classes), **self.settings)
        config = PretrainedCfg(
            source="captum-vit",
            architecture=self.name,
            input_size=self.input_size,
            fixed_input_size=True,
            interpolation="bicubic",
            crop_pct=1.0,
            mean=self.mean,
            std=self.std,
            num_classes=len(self.classes),
            label_names=self.classes,
            first_conv="patch_embed.proj",
            classifier="head",
            license="apache-2.0",
        ).to_dict()
        model.pretrained_cfg = model.default_cfg = config
        return model.eval()


_PHOTOS = (
    "BytheWater",
    "ColdRipple",
    "ColorfulCups",
    "FallenLeaf",
    "Grey",
    "Kite",
    "OneStandsOut",
    "Path",
    "summer_1am",
    "Aqua",
    "Blinds",
    "Dune",
    "FreshFlower",
    "Garden",
    "GreenMeadow",
    "RainDrops",
    "Storm",
    "TwoWings",
    "Wood",
    "YellowFlower",
    "Bridge",
    "Dragonfly",
    "Kleiber",
    "Picture_0B",
    "Picture_1A",
    "aitzgorri",
    "free",
    "friends",
    "greentock",
    "life",
    "sunset",
    "brick",
    "camera",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "ihc",
    "moon",
    "retina",
    "text",
    "flower",
)

_DEIT_MICRO = EmbeddedModel(
    name="deit_micro",
    timm_class="timm.models.vision_transformer:VisionTransformer",
    settings=MappingProxyType(
        {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4, "mlp_ratio": 4.0}
    ),
    sha256="bd55a9ecf7259b6894c444e59cd5506eb892b36f19d253df84bf4f11587bf0df",
    classes=_PHOTOS,
)

MODELS: Mapping[str, EmbeddedModel] = MappingProxyType({model.name: model for model in (_DEIT_MICRO,)})
