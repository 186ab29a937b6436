"""The image towers of CLIP: OpenAI's own code, and open_clip's; a whole CLIP model is served by its tower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from captum_vit import Adapter, PatchGrid, Preprocessing, Site, feed_forward, hookimpl
from captum_vit_adapters.attention import attention_of

BATCH_FIRST, TOKENS_FIRST = "b (h w) c", "(h w) b c"


class CLIP(Adapter):
    """OpenAI's CLIP: computes on (tokens, batch, units); the class token alone becomes the embedding."""

    family = "clip"
    models = ("clip.model.VisionTransformer",)
    stem = "conv1"

    def preprocessing(self, model: Any) -> Preprocessing:
        """The model knows its size; all of its weights are for the same mean and standard deviation."""
        return Preprocessing((model.input_resolution, model.input_resolution), OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)

    def layout(self, model: Any) -> str:
        """How the blocks' activations lie."""
        return TOKENS_FIRST

    def reads_patches(self, model: Any) -> bool:
        """Whether more than the class token is read behind the last block."""
        return False

    def sites(self, model: Any) -> Iterator[Site]:
        """One site a block."""
        grid, blocks = PatchGrid().through(model.conv1), model.transformer.resblocks
        for i, block in enumerate(blocks):
            yield feed_forward(
                f"transformer.resblocks.{i}",
                reads=block.mlp.c_proj,
                grid=grid,
                layout=self.layout(model),
                prefix_tokens=1,
                attention=attention_of(block.attn),
                reaches_output=block is not blocks[-1] or self.reads_patches(model),
            )


class OpenCLIP(CLIP):
    """open_clip's ViTs (OpenAI, LAION, DataComp, DFN, CoCa): pooled by class token, average or attention."""

    family = "open_clip"
    models = ("open_clip.transformer.VisionTransformer",)

    def preprocessing(self, model: Any) -> Preprocessing:
        """As open_clip records it with the model that it makes; a tower alone may be for any mean."""
        told = getattr(model, "preprocess_cfg", None)
        if told is not None:
            return Preprocessing.read(told)
        return Preprocessing(model.image_size, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, assumed=True)

    def layout(self, model: Any) -> str:
        """Older releases compute on tokens first."""
        return BATCH_FIRST if getattr(model.transformer, "batch_first", False) else TOKENS_FIRST

    def reads_patches(self, model: Any) -> bool:
        """Where it pools by average or attention, or gives the tokens as well."""
        return model.attn_pool is not None or model.pool_type != "tok" or model.output_tokens


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [CLIP(), OpenCLIP()]
