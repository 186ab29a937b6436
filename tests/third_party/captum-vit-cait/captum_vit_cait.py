"""CaiT for captum-vit: patch tokens alone go through ``blocks``; the class token joins them only afterwards."""

from timm.models.cait import Cait

from captum_vit import Adapter, PatchGrid, feed_forward, hookimpl


class CaiT(Adapter):
    family = "cait"
    models = (Cait,)

    def sites(self, model):
        grid = PatchGrid.patches(model.patch_embed.patch_size)
        for i, block in enumerate(model.blocks):
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid)


@hookimpl
def captum_vit_adapters():
    return [CaiT()]
