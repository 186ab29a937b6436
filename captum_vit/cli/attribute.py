"""The command ``captum-vit attribute``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_vit.cli.model import DEFAULT_MODEL, Checkpoint, Device, Model, ModelChoice, RandomWeights, Seed
from captum_vit.cli.neurons import Neurons, and_photos, find_neurons
from captum_vit.cli.photos import Explanation, Photos, explain_photos, find_photos, out_option
from captum_vit.probes.devices import AUTO
from captum_vit.storage.files import check_folder
from captum_vit.storage.marks import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from captum_vit.probes.address import Address

# Percentage of the pixels beyond the ends of the picture's scale: a few extreme ones would leave the others pale.
OUTLIERS = 0.5


def attribute(
    model: Model = DEFAULT_MODEL,
    neurons: Neurons = None,
    images: Photos = None,
    out: Annotated[Path | None, out_option("MODEL-METHOD")] = None,
    method: Annotated[
        str, typer.Option(help="Captum's: integrated-gradients, saliency, occlusion, noise-tunnel:saliency ...")
    ] = "integrated-gradients",
    checkpoint: Checkpoint = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    device: Device = AUTO,
) -> None:
    """Attribute neurons' activations to the pixels of photos: a PNG, and an array (3, height, width), for each.

    By any of Captum's methods that explain a function of the image. The PNG shows the sum over the three channels.
    """
    from captum_vit.attribution import attribute, options_of
    from captum_vit.plots import color_scale, side_by_side

    # Everything that can be wrong with the question comes before weights are fetched.
    neurons, images = and_photos(neurons, images)
    choice = ModelChoice(model, checkpoint, random_weights, seed, device).naming(neurons)
    options = options_of(method)
    photos = find_photos(images)
    addresses = find_neurons(choice, neurons)
    out = out or Path(f"{choice.file_name}-{file_name(method)}")
    check_folder(out)

    # Methods that take many passes over one photo show Captum's own progress bar, one for each photo. Occlusion's
    # counts other passes than it makes (Captum 0.9).
    own_bar = "show_progress" in options and "sliding_window_shapes" not in options
    settings: dict[str, Any] = {"show_progress": True} if own_bar else {}

    with choice.loaded() as vit:

        def values(address: Address, images: Tensor, cells: Tensor) -> Tensor:
            _seed(seed, f"{address} {method}")  # for each photo: what it gives does not depend on those before it
            return attribute(vit, address, images, method, **settings)[0]

        def draw(address: Address, pixels: Tensor, attributions: Tensor, name: str) -> Figure:
            return side_by_side(
                pixels,
                attributions,
                titles=(name, f"{method} of {address}"),
                labels="attribution (sum of channels)",
                scales=[color_scale(attributions, outliers=OUTLIERS)],
            )

        what = {"explanation": method, "seed": seed}
        how = Explanation(what, f"-{file_name(method)}", values, draw, shows_progress=own_bar)
        explain_photos(vit, choice.full_name, addresses, photos, out, how)


def _seed(seed: int, key: str) -> None:
    """Seed the generators that Captum's methods draw from; the process is the command's own."""
    import random

    import numpy as np
    import torch

    from captum_vit.optvis.randomness import stream_key

    number = stream_key(seed, key)[0]
    for set_seed in (torch.manual_seed, np.random.seed, random.seed):
        set_seed(number)
