"""Models in the code of their authors' repositories, told by the names of classes and what these are made of.

Such code is copied from project to project, so its classes have no path of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from captum_vit import Adapter, PatchGrid, Preprocessing, Site, feed_forward, hookimpl
from captum_vit.errors import UnsupportedModelError
from captum_vit_adapters.attention import attention_of


class OriginalCode(Adapter):
    """Patch tokens of ``patch_embed.proj`` through ``blocks``, in their authors' code.

    Attributes
    ----------
    named
        Names of the classes, subclasses included.
    made_of
        What an instance has, as paths of attributes.
    second_linear
        What its blocks may call the layer that reads the hidden activation.
    any_size
        Whether images of every size are taken as they are.
    """

    named: ClassVar[tuple[str, ...]]
    made_of: ClassVar[tuple[str, ...]]
    second_linear: ClassVar[tuple[str, ...]] = ("fc2",)
    any_size: ClassVar[bool] = True

    def serves(self, model: nn.Module) -> bool:
        """Whether it has the name, and all that the name stands for."""
        known = any(kind.__name__ in self.named for kind in type(model).__mro__)
        return known and all(_found(model, path) is not None for path in self.made_of)

    def preprocessing(self, model: Any) -> Preprocessing:
        """The stem, or else the model, knows its size; the authors' weights are for ImageNet's mean and deviation."""
        side = getattr(model.patch_embed, "img_size", None) or model.img_size
        size = (side, side) if isinstance(side, int) else (side[0], side[1])
        return Preprocessing(size, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, any_size=self.any_size)

    def grid(self, model: Any) -> PatchGrid:
        """That of the patches."""
        return PatchGrid().through(model.patch_embed.proj)

    def reads(self, block: Any) -> nn.Module:
        """The layer of a block that reads the hidden activation."""
        return next(getattr(block.mlp, name) for name in self.second_linear if hasattr(block.mlp, name))


class DINO(OriginalCode):
    """DINO's ViT (facebookresearch/dino, iBOT): images of any size; the class token alone is given."""

    family = "dino"
    named = ("VisionTransformer",)
    made_of = ("prepare_tokens", "interpolate_pos_encoding", "cls_token", "patch_embed.proj", "blocks.0.mlp.fc2")

    def prefix_tokens(self, model: Any) -> int:
        """The class token, and registers where there are."""
        return 1

    def sites(self, model: Any) -> Iterator[Site]:
        """One site a block, also where blocks are in chunks."""
        listed = [(name, block) for name, block in model.blocks.named_modules(prefix="blocks") if hasattr(block, "mlp")]
        for name, block in listed:
            yield feed_forward(
                name,
                reads=self.reads(block),
                grid=self.grid(model),
                prefix_tokens=self.prefix_tokens(model),
                attention=attention_of(getattr(block, "attn", None)),
                reaches_output=block is not listed[-1][1],
            )


class DINOv2(DINO):
    """DINOv2's ViT (facebookresearch/dinov2, Depth Anything): blocks in chunks, gated MLPs, register tokens."""

    family = "dinov2"
    named = ("DinoVisionTransformer",)
    made_of = ("prepare_tokens_with_masks", "interpolate_pos_encoding", "pos_embed", "patch_embed.proj", "mask_token")
    second_linear = ("fc2", "w3")

    def prefix_tokens(self, model: Any) -> int:
        """The class token, and registers where there are."""
        return 1 + getattr(model, "num_register_tokens", 0)


class DeiT3(DINO):
    """DeiT III's ViT (facebookresearch/deit, ``models_v2``): the class token gets no position."""

    family = "deit3"
    named = ("vit_models",)
    made_of = ("pos_embed", "cls_token", "patch_embed.proj", "blocks.0.mlp.fc2")
    any_size = False

    def serves(self, model: nn.Module) -> bool:
        """Not where two feed-forward blocks run side by side."""
        return super().serves(model) and not hasattr(model.blocks[0], "mlp1")


class MAE(OriginalCode):
    """MAE's pretraining model (facebookresearch/mae): refused, as it shuffles patches; its encoder is timm's ViT."""

    family = "mae"
    named = ("MaskedAutoencoderViT",)
    made_of = ("random_masking", "patch_embed.proj", "decoder_blocks")

    def sites(self, model: Any) -> Iterator[Site]:
        """None."""
        raise UnsupportedModelError(
            f"{type(model).__name__} draws patches in a random order, also with mask_ratio=0, so that no cell of a map "
            "keeps its place; load the encoder's weights into a ViT, such as the repository's models_vit or "
            'timm.create_model("vit_base_patch16_224.mae")'
        )


class OriginalSwin(OriginalCode):
    """Swin, Swin V2 and Swin MLP (microsoft/Swin-Transformer): images of one size; merges end their stages."""

    family = "swin_original"
    named = ("SwinTransformer", "SwinTransformerV2", "SwinMLP")
    made_of = ("patch_embed.proj", "patches_resolution", "layers.0.input_resolution", "layers.0.blocks.0.mlp.fc2")
    any_size = False

    def sites(self, model: Any) -> Iterator[Site]:
        """One site a block, stage by stage."""
        grid = self.grid(model)
        for i, layer in enumerate(model.layers):
            for j, block in enumerate(layer.blocks):
                yield feed_forward(f"layers.{i}.blocks.{j}", reads=self.reads(block), grid=grid)
            grid = grid.then(2, 2)


class SegmentAnything(OriginalCode):
    """Segment Anything's image encoder (facebookresearch/segment-anything, MedSAM, HQ-SAM): channels last."""

    family = "segment_anything"
    named = ("ImageEncoderViT",)
    made_of = ("patch_embed.proj", "neck", "blocks.0.window_size", "blocks.0.mlp.lin2")
    second_linear = ("lin2",)
    any_size = False

    def sites(self, model: Any) -> Iterator[Site]:
        """One site a block."""
        for i, block in enumerate(model.blocks):
            yield feed_forward(f"blocks.{i}", reads=self.reads(block), grid=self.grid(model), layout="b h w c")


def _found(model: Any, path: str) -> Any:
    """What an object has at a path of attributes, where lists are counted; None if there is nothing."""
    for name in path.split("."):
        try:
            model = model[int(name)] if name.isdigit() else getattr(model, name)
        except (AttributeError, LookupError, TypeError):
            return None
    return model


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [DINO(), DINOv2(), DeiT3(), MAE(), OriginalSwin(), SegmentAnything()]
