"""MLP-Mixer, ResMLP and gMLP: models of MLPs alone, one that mixes patches and one that mixes channels."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models.mlp_mixer import MlpMixer

from captum_vit import Adapter, PatchGrid, Site, feed_forward, hookimpl


class Mixer(Adapter):
    """MLP-Mixer, gMixer, ResMLP and gMLP: the channel MLPs are sites; hidden units of token MLPs lie on no grid."""

    family = "mlp_mixer"
    models = (MlpMixer,)
    stem = "stem"

    def sites(self, model: MlpMixer) -> Iterator[Site]:
        """One site a block."""
        grid = PatchGrid().through(model.stem)
        for i, block in enumerate(model.blocks):
            yield feed_forward(f"blocks.{i}", reads=block.mlp_channels.fc2, grid=grid)


@hookimpl
def captum_vit_adapters() -> list[Adapter]:
    """Hand the adapter to captum-vit."""
    return [Mixer()]
