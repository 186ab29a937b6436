"""What adapters of timm's models share whose images may have any size."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from captum_vit import Adapter, Preprocessing


class AnySize(Adapter):
    """A family whose models take images of other sizes than their own as they are."""

    def preprocessing(self, model: nn.Module) -> Preprocessing:
        """As timm records it, of any size."""
        return replace(Preprocessing.of(model, model.get_submodule(self.stem)), any_size=True)
