"""The command ``captum-vit patch-map``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from captum_vit.cli.model import DEFAULT_MODEL, Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.cli.neurons import Neurons, and_photos, find_neurons
from captum_vit.cli.photos import Explanation, Photos, explain_photos, find_photos, out_option
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import check_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from captum_vit.probes.address import Address


def patch_map(
    model: Model = DEFAULT_MODEL,
    neurons: Neurons = None,
    images: Photos = None,
    out: Annotated[Path | None, out_option("MODEL-patch-maps")] = None,
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Map where in photos neurons respond: a PNG, and an array (rows, columns) of activations, for each.

    The photo is cropped as for the model. In the PNG, the map lies over it between the cells' true centres.
    """
    # Everything that can be wrong with the question comes before weights are fetched.
    neurons, images = and_photos(neurons, images)
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming(neurons)
    photos = find_photos(images)
    addresses = find_neurons(choice, neurons)
    out = out or Path(f"{choice.file_name}-patch-maps")
    check_folder(out)

    with choice.loaded() as vit:

        def draw(address: Address, pixels: Tensor, cells: Tensor, name: str) -> Figure:
            from captum_vit.plots import side_by_side

            heat = vit.site(address.site).to_image(cells, (pixels.shape[-2], pixels.shape[-1]))
            return side_by_side(pixels, heat, titles=(name, f"patch map of {address}"))

        how = Explanation({"explanation": "patch map"}, "", lambda address, images, cells: cells, draw)
        explain_photos(vit, choice.full_name, addresses, photos, out, how)
