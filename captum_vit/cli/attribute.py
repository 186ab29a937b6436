"""The command ``captum-vit attribute``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_vit.cli.model import Checkpoint, Device, Model, RandomWeights, adapted, file_name, find_device, full_name
from captum_vit.cli.photos import NeuronAddress, OutFolder, Photos, explain_photos, find_neuron

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

# Percentage of the pixels beyond the ends of the picture's scale: a few extreme ones would leave the others pale.
OUTLIERS = 0.5


def attribute(
    model: Model,
    neuron: NeuronAddress,
    images: Photos,
    out: OutFolder,
    method: Annotated[
        str, typer.Option(help="Captum's: integrated-gradients, saliency, occlusion, noise-tunnel:saliency ...")
    ] = "integrated-gradients",
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of methods that sample, and of random weights.")] = 0,
    device: Device = "cpu",
) -> None:
    """Attribute a neuron's activation to the pixels of photos: a PNG, and an array (3, height, width), for each.

    By any of Captum's methods that explain a function of the image. The PNG shows the sum over the three channels.
    """
    from captum_vit.attribution import attribute, options_of
    from captum_vit.data.images import find_images
    from captum_vit.optvis.randomness import RandomStream
    from captum_vit.plots import color_scale, side_by_side
    from captum_vit.storage.files import check_folder

    # Everything that can be wrong with the question comes before weights are fetched.
    options = options_of(method)
    photos = find_images(images)
    place = find_device(device)
    site, unit = find_neuron(model, neuron)
    check_folder(out)

    address = f"{site.name}:{unit}"
    # Methods that take many passes over one photo show Captum's own progress bar, one for each photo. Occlusion's
    # counts other passes than it makes (Captum 0.9).
    own_bar = "show_progress" in options and "sliding_window_shapes" not in options
    settings: dict[str, Any] = {"show_progress": True} if own_bar else {}

    def draw(pixels: Tensor, attributions: Tensor, name: str) -> Figure:
        return side_by_side(
            pixels,
            attributions,
            titles=(name, f"{method} of {address}"),
            labels="attribution (sum of channels)",
            scales=[color_scale(attributions, outliers=OUTLIERS)],
        )

    with adapted(model, checkpoint, random_weights, seed, place) as vit:

        def explain(images: Tensor, cells: Tensor) -> Tensor:
            # A stream for each photo: what it gives does not depend on the photos before it.
            with RandomStream(seed, f"{address} {method}", place):
                return attribute(vit, address, images, method, **settings)[0]

        name = full_name(model, random_weights)
        explain_photos(
            vit, name, address, photos, out, f"{site.name}-{unit}-{file_name(method)}", explain, draw, not own_bar
        )
