"""BEiT and BEiT v2: a plain transformer with a relative position bias in every block."""

from __future__ import annotations

from timm.models.beit import Beit

from captum_vit import Adapter, hookimpl
from captum_vit_adapters.deit import DeiT


class BEiT(DeiT):
    """BEiT and BEiT v2: relative position bias, one class token, pooled over patches by default."""

    family = "beit"
    models = (Beit,)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [BEiT()]
