"""Whether patch maps tell where: does the region at a map's peak excite its neuron more than others of the photo?

For random live neurons of the trained DINOv2 ViT-S/14, the photos that excite each most are found among crops of real
photos. The square around the peak of each photo's patch map is then shown alone, at its place on a grey image, and so
are squares at random places of the same photos. Live is a neuron whose activation, averaged over the patches, is above
zero on the photo that excites it most.

    python tests/benchmarks/locality.py [--neurons 200] [--crops 8] [--top 5] [--side 5] [--seed 0]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import TensorDataset

import captum_vit
from captum_vit.models.training.photos import held_out_photos, random_crops, training_photos
from captum_vit.models.training.teacher import load_teacher

SIZE, PATCH, GREY = 224, 14, 0.5


def crops_of_photos(count: int, seed: int) -> Tensor:
    """Crops ``(photos * count, 3, 224, 224)`` in [0, 1] of all the photos that training and its evaluation use."""
    photos = training_photos() + held_out_photos()
    crops = [random_crops(photo, count, SIZE, np.random.default_rng([seed, i])) for i, photo in enumerate(photos)]
    return torch.from_numpy(np.concatenate(crops)).permute(0, 3, 1, 2).float() / 255


def alone(image: Tensor, centre: tuple[float, float], side: int) -> Tensor:
    """An image ``(3, H, W)`` with all but a square of ``side`` pixels around a place in grey."""
    top, left = (int(min(max(round(at - side / 2), 0), SIZE - side)) for at in centre)
    shown = torch.full_like(image, GREY)
    window = (slice(None), slice(top, top + side), slice(left, left + side))
    shown[window] = image[window]
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=200)
    parser.add_argument("--crops", type=int, default=8, help="of each photo")
    parser.add_argument("--top", type=int, default=5, help="crops for each neuron")
    parser.add_argument("--random", type=int, default=5, help="random squares of each crop")
    parser.add_argument("--side", type=int, default=5, help="of a square, in patches")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    images = crops_of_photos(arguments.crops, arguments.seed)
    vit = captum_vit.adapt(load_teacher())
    normalized = vit.preprocessing.normalize(images)
    top = captum_vit.top_images(vit, TensorDataset(normalized), k=arguments.top, batch_size=16)

    everyone = [f"{site.name}:{unit}" for site in vit.sites for unit in range(site.units)]
    live = [address for address in everyone if top.best(address)[0].activation > 0]
    print(f"{len(images)} crops; {len(live)} of {len(everyone)} neurons are live")
    side = arguments.side * PATCH
    gains: dict[str, list[float]] = {site.name: [] for site in vit.sites}
    for address in track(rng.choice(live, arguments.neurons, replace=False).tolist()):
        site, _ = vit.address(address)
        rows, columns = site.grid.centres((SIZE, SIZE))
        at_peak, elsewhere = [], []
        best = torch.tensor([found.index for found in top.best(address)])
        for index, patch_map in zip(best, vit.patch_map(normalized[best], address), strict=True):
            row, column = divmod(int(patch_map.argmax()), patch_map.shape[1])
            at_peak.append(alone(images[index], (rows[row], columns[column]), side))
            places = rng.uniform(side / 2, SIZE - side / 2, (arguments.random, 2))
            elsewhere += [alone(images[index], (float(down), float(right)), side) for down, right in places]
        with torch.no_grad():
            activations = vit.neuron(address)(vit.preprocessing.normalize(torch.stack(at_peak + elsewhere)))
        peak, other = activations[: len(at_peak)].mean(), activations[len(at_peak) :].mean()
        gains[site.name].append(float(peak - other))

    print("| site | neurons | peak excites more |")
    print("|---|---|---|")
    for name, found in gains.items():
        print(f"| {name} | {len(found)} | {sum(gain > 0 for gain in found)} |")
    total = [gain for found in gains.values() for gain in found]
    print(f"| all | {len(total)} | {sum(gain > 0 for gain in total)} ({np.mean(np.array(total) > 0):.1%}) |")


if __name__ == "__main__":
    main()
