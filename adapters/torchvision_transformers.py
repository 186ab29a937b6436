"""torchvision's transformers: ViT, Swin and Swin V2, MaxViT; their weights expect ImageNet's mean and deviation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from captum_vit import Adapter, PatchGrid, Preprocessing, Site, feed_forward, hookimpl
from captum_vit_adapters.attention import NOT_CALLED, attention_of


class TorchvisionViT(Adapter):
    """torchvision's ViT: images of one size, a class token; a convolutional stem where one is configured."""

    family = "torchvision_vit"
    models = ("torchvision.models.vision_transformer.VisionTransformer",)
    stem = "conv_proj"

    def preprocessing(self, model: Any) -> Preprocessing:
        """The model knows its size."""
        return Preprocessing((model.image_size, model.image_size), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def sites(self, model: Any) -> Iterator[Site]:
        """One site a block; the class token alone is classified."""
        grid = PatchGrid().through(model.conv_proj)
        *_, last = model.encoder.layers
        for name, block in model.encoder.layers.named_children():
            yield feed_forward(
                f"encoder.layers.{name}",
                reads=block.mlp[3],
                grid=grid,
                prefix_tokens=1,
                attention=attention_of(block.self_attention),
                reaches_output=block is not last,
            )


class TorchvisionSwin(Adapter):
    """torchvision's Swin and Swin V2: channels last, images of any size, as windows and merges pad them."""

    family = "torchvision_swin"
    models = ("torchvision.models.swin_transformer.SwinTransformer",)
    stem = "features.0"

    def preprocessing(self, model: Any) -> Preprocessing:
        """V2's weights are for 256 pixels."""
        side = 256 if type(model.features[1][0]).__name__ == "SwinTransformerBlockV2" else 224
        return Preprocessing((side, side), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, any_size=True)

    def sites(self, model: Any) -> Iterator[Site]:
        """One site a block; ``features`` are the stem, and stages and patch merges in turn."""
        grid = PatchGrid().through(model.features[0])
        for i, stage in enumerate(model.features[1:], start=1):
            if hasattr(stage, "reduction"):
                grid = grid.then(2, 2, ceil=True)
                continue
            for j, block in enumerate(stage):
                yield feed_forward(
                    f"features.{i}.{j}", reads=block.mlp[3], grid=grid, layout="b h w c", attention=NOT_CALLED
                )


class TorchvisionMaxViT(Adapter):
    """torchvision's MaxViT: MLPs run inside windows and grids, which order cells differently; three sites a layer."""

    family = "torchvision_maxvit"
    models = ("torchvision.models.maxvit.MaxVit",)
    stem = "stem"

    def preprocessing(self, model: Any) -> Preprocessing:
        """The stem and the first block halve the image each."""
        rows, columns = model.blocks[0].grid_size
        return Preprocessing((4 * rows, 4 * columns), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def sites(self, model: Any) -> Iterator[Site]:
        """Of each layer the inverted bottleneck, attention in windows and attention in grids."""
        grid = PatchGrid().through(model.stem)
        for i, block in enumerate(model.blocks):
            for j, layer in enumerate(block.layers):
                name, (bottleneck, *attentions) = f"blocks.{i}.layers.{j}.layers", layer.layers
                grid = grid.through(bottleneck.proj)
                yield feed_forward(f"{name}.MBconv", reads=bottleneck.layers.conv_c, grid=grid, layout="b c h w")
                for attention in attentions:
                    # A grid has its cells one partition apart, so that it holds one cell of each window.
                    within, of = ("(h w)", "(y x)") if attention.partition_type == "window" else ("(y x)", "(h w)")
                    yield feed_forward(
                        f"{name}.{attention.partition_type}_attention",
                        reads=attention.mlp_layer[3],
                        grid=grid,
                        layout=f"b {of} {within} c -> b c (y h) (x w)",
                        axes={"h": attention.p, "w": attention.p},
                    )


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [TorchvisionViT(), TorchvisionSwin(), TorchvisionMaxViT()]
