"""EVA and what timm builds of it: EVA02, DINOv3, Perception Encoder, ViTs with rotary positions, Sapiens2."""

from __future__ import annotations

from timm.models.eva import Eva

from captum_vit import Adapter, hookimpl
from captum_vit_adapters.deit import DeiT


class EVA(DeiT):
    """EVA, EVA02, DINOv3, Perception Encoder: rotary positions, gated MLPs, up to nine prefix tokens."""

    family = "eva"
    models = (Eva,)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [EVA()]
