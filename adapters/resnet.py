"""ResNets of timm, torchvision and CLIP: residual blocks whose last convolution is ``conv3``, or ``conv2``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import nn

from captum_vit import Adapter, PatchGrid, Preprocessing, Site, hookimpl
from captum_vit_adapters.convnets import ConvNet, at_last, residual


class ResNet(ConvNet):
    """ResNet, ResNeXt, ResNeSt, Res2Net, SK-ResNet, Wide ResNet: ``layer4.2.conv3`` and ``layer4.2``."""

    family = "resnet"
    models = ("timm.models.resnet.ResNet", "torchvision.models.resnet.ResNet")
    stem = "conv1"
    before: ClassVar[tuple[str, ...]] = ("conv1", "maxpool")

    def blocks(self, model: Any) -> Iterable[tuple[str, nn.Module]]:
        """Path and module of each block."""
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            for j, block in enumerate(getattr(model, stage)):
                yield f"{stage}.{j}", block

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block."""
        grid = PatchGrid().through(*(model.get_submodule(path) for path in self.before))
        for name, block in self.blocks(model):
            last = "conv3" if hasattr(block, "conv3") else "conv2"
            grid = at_last(grid, block, block.get_submodule(last))
            yield from residual(name, block, last, grid)


class CLIPResNet(ResNet):
    """CLIP's ResNets, of OpenAI and open_clip: pooled by attention, which fixes the size of images."""

    family = "clip_resnet"
    models = ("clip.model.ModifiedResNet", "open_clip.modified_resnet.ModifiedResNet")
    before = ("conv1", "conv2", "conv3", "avgpool")

    def preprocessing(self, model: Any) -> Preprocessing:
        """As open_clip records it with the model; OpenAI's is of one kind."""
        if (told := getattr(model, "preprocess_cfg", None)) is not None:
            return Preprocessing.read(told)
        size = getattr(model, "input_resolution", None) or model.image_size
        size = (size, size) if isinstance(size, int) else tuple(size)
        return Preprocessing(size, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, assumed=not hasattr(model, "input_resolution"))


class ResNetV2(ResNet):
    """ResNet V2, BiT: normalization before convolutions; ``stages.3.blocks.2.conv3`` and ``stages.3.blocks.2``."""

    family = "resnetv2"
    models = ("timm.models.resnetv2.ResNetV2",)
    stem = "stem"
    before = ("stem",)

    def blocks(self, model: Any) -> Iterable[tuple[str, nn.Module]]:
        """Path and module of each block."""
        for i, stage in enumerate(model.stages):
            for j, block in enumerate(stage.blocks):
                yield f"stages.{i}.blocks.{j}", block


class SENet(ResNet):
    """The first SENets, as timm keeps them."""

    family = "senet"
    models = ("timm.models.senet.SENet",)
    stem = "layer0"
    before = ("layer0", "pool0")


class RegNet(ResNet):
    """timm's RegNet X, Y, Z and V: ``s4.b1.conv3`` and ``s4.b1``."""

    family = "regnet"
    models = ("timm.models.regnet.RegNet",)
    stem = "stem"
    before = ("stem",)

    def blocks(self, model: Any) -> Iterable[tuple[str, nn.Module]]:
        """Path and module of each block."""
        for stage in ("s1", "s2", "s3", "s4"):
            yield from ((f"{stage}.{name}", block) for name, block in getattr(model, stage).named_children())


class NFNet(ResNet):
    """NFNets, without normalization: ``stages.3.2.conv3`` and ``stages.3.2``."""

    family = "nfnet"
    models = ("timm.models.nfnet.NormFreeNet",)
    stem = "stem"
    before = ("stem",)

    def blocks(self, model: Any) -> Iterable[tuple[str, nn.Module]]:
        """Path and module of each block."""
        for i, stage in enumerate(model.stages):
            yield from ((f"stages.{i}.{j}", block) for j, block in enumerate(stage))


class TorchvisionRegNet(ConvNet):
    """torchvision's RegNet X and Y: ``trunk_output.block4.block4-0.f.c.0`` and ``trunk_output.block4.block4-0``."""

    family = "torchvision_regnet"
    models = ("torchvision.models.regnet.RegNet",)
    stem = "stem"

    def sites(self, model: Any) -> Iterator[Site]:
        """Two sites a block."""
        grid = PatchGrid().through(model.stem)
        for stage, blocks in model.trunk_output.named_children():
            for name, block in blocks.named_children():
                grid = at_last(grid, block, block.f.c[0])
                yield from residual(f"trunk_output.{stage}.{name}", block, "f.c.0", grid)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [ResNet(), CLIPResNet(), ResNetV2(), SENet(), RegNet(), NFNet(), TorchvisionRegNet()]
