"""The command ``captum-vit patch-map``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_vit.cli.model import Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.cli.photos import NeuronAddress, OutFolder, Photos, explain_photos
from captum_vit.probes.devices import AUTO

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
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Map where in photos a neuron responds: a PNG, and an array (rows, columns) of activations, for each.

    The photo is cropped as for the model. In the PNG, the map lies over it between the cells' true centres.
    """
    from captum_vit.cli.folders import find_images
    from captum_vit.plots import side_by_side
    from captum_vit.storage.files import check_folder

    # Everything that can be wrong with the question comes before weights are fetched.
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming([neuron])
    photos = find_images(images)
    with choice.sketch() as sketch:
        site, unit = sketch.address(neuron)
    check_folder(out)

    address = site.address(unit)

    def draw(pixels: Tensor, cells: Tensor, name: str) -> Figure:
        heat = site.to_image(cells, (pixels.shape[-2], pixels.shape[-1]))
        return side_by_side(pixels, heat, titles=(name, f"patch map of {address}"))

    with choice.loaded() as vit:
        name = choice.full_name
        ending, what = address.file_name, {"explanation": "patch map"}
        explain_photos(vit, name, address, photos, out, ending, what, lambda images, cells: cells, draw)
