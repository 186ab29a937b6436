"""Plain vision transformers of Hugging Face's transformers: one patch embedding, then blocks that keep its grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from torch import nn

from captum_vit import Adapter, Attention, PatchGrid, Site, feed_forward, hookimpl
from captum_vit.errors import UnsupportedModelError
from captum_vit.probes.layout import Layout
from captum_vit_adapters.attention import attention_of
from captum_vit_adapters.from_transformers import FromTransformers, blocks, inside, of, second_linear

# What the tokens are called that stand before those of the patches, and behind them.
BEFORE = ("cls_token", "class_embedding", "distillation_token", "register_tokens", "cls_register_token")
BEHIND = ("detection_tokens",)
# Where blocks keep the module with the layers of attention, the innermost first.
ATTENTION = ("attention.attention", "attention.self", "self_attn", "self_attention", "attention", "attn")


class TransformersViT(FromTransformers):
    """Towers and backbones: class, distillation and register tokens first, detection tokens (YOLOS) last."""

    family = "transformers_vit"
    models = of(
        "aimv2.modeling_aimv2.Aimv2VisionModel",
        "altclip.modeling_altclip.AltCLIPVisionModel",
        "altclip.modeling_altclip.AltCLIPVisionTransformer",
        "beit.modeling_beit.BeitBackbone",
        "beit.modeling_beit.BeitModel",
        "blip.modeling_blip.BlipVisionModel",
        "blip_2.modeling_blip_2.Blip2VisionModel",
        "chinese_clip.modeling_chinese_clip.ChineseCLIPVisionModel",
        "chinese_clip.modeling_chinese_clip.ChineseCLIPVisionTransformer",
        "clip.modeling_clip.CLIPVisionModel",
        "clip.modeling_clip.CLIPVisionTransformer",
        "clipseg.modeling_clipseg.CLIPSegVisionModel",
        "clipseg.modeling_clipseg.CLIPSegVisionTransformer",
        "data2vec.modeling_data2vec_vision.Data2VecVisionModel",
        "deit.modeling_deit.DeiTModel",
        "dinov2.modeling_dinov2.Dinov2Backbone",
        "dinov2.modeling_dinov2.Dinov2Model",
        "dinov2_with_registers.modeling_dinov2_with_registers.Dinov2WithRegistersBackbone",
        "dinov2_with_registers.modeling_dinov2_with_registers.Dinov2WithRegistersModel",
        "dinov3_vit.modeling_dinov3_vit.DINOv3ViTBackbone",
        "dinov3_vit.modeling_dinov3_vit.DINOv3ViTModel",
        "dpt.modeling_dpt.DPTModel",
        "flava.modeling_flava.FlavaImageModel",
        "git.modeling_git.GitVisionModel",
        "git.modeling_git.GitVisionTransformer",
        "idefics.vision.IdeficsVisionTransformer",
        "idefics2.modeling_idefics2.Idefics2VisionTransformer",
        "idefics3.modeling_idefics3.Idefics3VisionTransformer",
        "ijepa.modeling_ijepa.IJepaModel",
        "instructblip.modeling_instructblip.InstructBlipVisionModel",
        "instructblipvideo.modeling_instructblipvideo.InstructBlipVideoVisionModel",
        "internvl.modeling_internvl.InternVLVisionModel",
        "janus.modeling_janus.JanusVisionModel",
        "kosmos2.modeling_kosmos2.Kosmos2VisionTransformer",
        "metaclip_2.modeling_metaclip_2.MetaClip2VisionModel",
        "metaclip_2.modeling_metaclip_2.MetaClip2VisionTransformer",
        "mlcd.modeling_mlcd.MLCDVisionModel",
        "mlcd.modeling_mlcd.MLCDVisionTransformer",
        "owlv2.modeling_owlv2.Owlv2VisionTransformer",
        "owlvit.modeling_owlvit.OwlViTVisionTransformer",
        "pixio.modeling_pixio.PixioBackbone",
        "pixio.modeling_pixio.PixioModel",
        "radio.modeling_radio.RadioModel",
        "sapiens2.modeling_sapiens2.Sapiens2Backbone",
        "sapiens2.modeling_sapiens2.Sapiens2Model",
        "siglip.modeling_siglip.SiglipVisionModel",
        "siglip.modeling_siglip.SiglipVisionTransformer",
        "smolvlm.modeling_smolvlm.SmolVLMVisionTransformer",
        "tipsv2.modeling_tipsv2.Tipsv2VisionBackbone",
        "tipsv2.modeling_tipsv2.Tipsv2VisionModel",
        "vit.modeling_vit.ViTModel",
        "vit_msn.modeling_vit_msn.ViTMSNModel",
        "vitpose_backbone.modeling_vitpose_backbone.VitPoseBackbone",
        "x_clip.modeling_x_clip.XCLIPVisionModel",
        "x_clip.modeling_x_clip.XCLIPVisionTransformer",
        "yolos.modeling_yolos.YolosModel",
    )
    stem = "embeddings"
    layout: ClassVar[str] = "b (h w) c"
    axes: ClassVar[dict[str, int]] = {}

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block."""
        stem = model.get_submodule(self.stem)
        grid, before, behind = patch_grid(stem, model.config), tokens(stem, BEFORE), tokens(stem, BEHIND)
        listed = list(blocks(model))
        # Where there are prefix tokens, heads mostly read those alone.
        pooled = not before or behind or getattr(model.config, "use_mean_pooling", False)
        for name, block in listed:
            yield feed_forward(
                name,
                **hidden(name, block),
                grid=grid,
                layout=self.layout,
                axes=self.axes,
                prefix_tokens=before,
                suffix_tokens=behind,
                attention=attention(block),
                reaches_output=bool(pooled) or block is not listed[-1][1],
            )


class TransformersEoMT(TransformersViT):
    """EoMT: from one of the last blocks on, queries for masks stand before all other tokens."""

    family = "transformers_eomt"
    models = of(
        "eomt.modeling_eomt.EomtForUniversalSegmentation",
        "eomt_dinov3.modeling_eomt_dinov3.EomtDinov3ForUniversalSegmentation",
    )

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """One site a block; masks are read off the patches of the last."""
        sites = list(super().sites(model))
        for i, site in enumerate(sites):
            queries = model.config.num_queries if i >= len(sites) - model.config.num_blocks else 0
            layout = replace(site.layout, prefix_tokens=site.prefix_tokens + queries)
            yield replace(site, layout=layout, reaches_output=True)


class TransformersViTMAE(FromTransformers):
    """ViT-MAE: refused, as it draws patches in a random order; its weights are read as a ViT."""

    family = "transformers_vit_mae"
    models = of("vit_mae.modeling_vit_mae.ViTMAEModel")
    stem = "embeddings"

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """None."""
        raise UnsupportedModelError(
            f"{type(model).__name__} draws patches in a random order, also with mask_ratio=0, so that no cell of a map "
            "keeps its place; read the same weights as a ViT: "
            "transformers.ViTModel.from_pretrained(NAME, add_pooling_layer=False)"
        )


def patch_grid(stem: nn.Module, config: Any) -> PatchGrid:
    """Grid of a patch embedding: its convolution's, or that of patches cut without one."""
    convolutions = [module for module in stem.modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) > 1:
        raise UnsupportedModelError(
            f"{type(stem).__name__} cuts patches from what a ConvNet makes of the image, and where those look is not "
            "known here; write an adapter that describes their grid"
        )
    return PatchGrid().through(*convolutions) if convolutions else PatchGrid.patches(config.patch_size)


def hidden(name: str, block: nn.Module) -> dict[str, Any]:
    """Where a block's hidden activation is: read by one layer, or by several (the experts of VitPose++)."""
    layer = second_linear(name, block)
    if inside(block, "mlp.experts") is None:
        return {"reads": layer}
    return {"writes": block.mlp.act, "units": layer.in_features}


def attention(block: nn.Module) -> Attention | str | None:
    """Where a block's queries, keys and values are: in windows, where it has them (ViTDet, SAM)."""
    module = next((module for path in ATTENTION if (module := inside(block, path)) is not None), None)
    if inside(block, "message_attn") is not None:
        return "a token that stands for its frame in a video goes through attention with the others"
    side = getattr(block, "window_size", 0)
    windows = Layout("(b y x) h w c -> b c (y h) (x w)", (("h", side), ("w", side)), filled=True) if side else None
    return attention_of(module, layout=windows)


def tokens(stem: nn.Module, names: tuple[str, ...]) -> int:
    """How many tokens of these names an embedding adds."""
    added = [getattr(stem, name, None) for name in names]
    return sum(token.numel() // token.shape[-1] for token in added if token is not None)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapters to captum-vit."""
    return [TransformersViT(), TransformersEoMT(), TransformersViTMAE()]
