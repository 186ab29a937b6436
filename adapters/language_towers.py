"""The vision towers of multimodal language models: Qwen3-VL, Gemma 4, DeepSeek-OCR."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class Encoder(Adapter):
    """Encoders of Qwen3-VL, DeepSeek-OCR and Gemma 4: tokens without prefix, row by row until they are merged."""

    family = "language_tower"
    models = (
        "timm.models.deepseek_vit.DeepseekVitEncoder",
        "timm.models.gemma4_vit.Gemma4VitEncoder",
        "timm.models.qwen3_vit.Qwen3VitEncoder",
    )

    def sites(self, model) -> Iterator[Site]:
        """One site a block."""
        yield from blocks_of_encoder(model)


class Classifier(Adapter):
    """The same encoders under a classifier."""

    family = "language_tower_classifier"
    models = (
        "timm.models.deepseek_vit.DeepseekVitClassifier",
        "timm.models.gemma4_vit.Gemma4VitClassifier",
        "timm.models.qwen3_vit.Qwen3VitClassifier",
    )
    stem = "encoder.patch_embed"

    def sites(self, model) -> Iterator[Site]:
        """One site a block."""
        yield from blocks_of_encoder(model.encoder, "encoder.")


def blocks_of_encoder(encoder: nn.Module, prefix: str = "") -> Iterator[Site]:
    """Sites of an encoder at that path; Gemma's second linear layer sits behind a clamp."""
    grid = PatchGrid.patches(encoder.patch_embed.patch_size)
    for i, block in enumerate(encoder.blocks):
        reads = block.mlp.fc2 if hasattr(block.mlp, "fc2") else block.mlp.down_proj.linear
        yield feed_forward(f"{prefix}blocks.{i}", reads=reads, grid=grid)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [Encoder(), Classifier()]
