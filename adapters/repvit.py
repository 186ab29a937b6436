"""RepViT: a mobile ConvNet built as transformers are, a token mixer and then a channel mixer."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.repvit import RepVit, RepVitMlp

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl
from captum_vit_adapters.any_size import AnySize


class RepViT(AnySize):
    """RepViT: channels first; a downsampling has a feed-forward block before it and another one after it."""

    family = "repvit"
    models = (RepVit,)
    stem = "stem"

    def sites(self, model: RepVit) -> Iterator[Site]:
        """One site for each channel mixer, in their order."""
        grid = PatchGrid().through(model.stem)
        for name, module in model.stages.named_modules(prefix="stages"):
            if name.endswith("spatial_downsample"):
                grid = grid.through(module)
            elif isinstance(module, RepVitMlp):
                block = name.removesuffix(".channel_mixer")
                yield feed_forward(block, reads=module.conv2.c, grid=grid, layout="b c h w")


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [RepViT()]
