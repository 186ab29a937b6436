"""The command ``captum-vit patch-map``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from captum_vit.cli.model import Checkpoint, Device, Model, RandomWeights, adapted, find_device, full_name
from captum_vit.cli.photos import NeuronAddress, OutFolder, Photos, explain_photos, find_neuron

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


def patch_map(
    model: Model,
    neuron: NeuronAddress,
    images: Photos,
    out: OutFolder,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random weights.")] = 0,
    device: Device = "cpu",
) -> None:
    """Map where in photos a neuron responds: a PNG, and an array (rows, columns) of activations, for each.

    The photo is cropped as for the model. In the PNG, the map lies over it between the cells' true centres.
    """
    from captum_vit.data.images import find_images
    from captum_vit.plots import side_by_side
    from captum_vit.storage.files import check_folder

    # Everything that can be wrong with the question comes before weights are fetched.
    photos = find_images(images)
    place = find_device(device)
    site, unit = find_neuron(model, neuron)
    check_folder(out)

    address = f"{site.name}:{unit}"

    def draw(pixels: Tensor, cells: Tensor, name: str) -> Figure:
        heat = site.to_image(cells, (pixels.shape[-2], pixels.shape[-1]))
        return side_by_side(pixels, heat, titles=(name, f"patch map of {address}"))

    with adapted(model, checkpoint, random_weights, seed, place) as vit:
        name = full_name(model, random_weights)
        explain_photos(vit, name, address, photos, out, f"{site.name}-{unit}", lambda images, cells: cells, draw)
