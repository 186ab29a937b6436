"""Whether patch maps tell where: does the region at a map's peak excite its neuron more than others of the photo?

For random live neurons of the trained DINOv2 ViT-S/14, the photos that excite each most are found among crops of real
photos, ranked by the mean over patches, as in the paper, or by the largest patch. The square around the peak of each
photo's patch map is then shown alone, at its place on a grey image, and so are squares at random places of the same
photos. What a square excites is told in three ways: the mean over all patches, the largest patch, and the mean over the
patches in the square. Live is a neuron whose activation is above zero on the photo that excites it most.

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


def square(row: int, column: int, side: int) -> tuple[slice, slice]:
    """Rows and columns of the patches of a square around a patch, moved inwards at the border."""
    cells = SIZE // PATCH
    first = (min(max(at - side // 2, 0), cells - side) for at in (row, column))
    down, right = (slice(at, at + side) for at in first)
    return down, right


def alone(image: Tensor, patches: tuple[slice, slice]) -> Tensor:
    """An image ``(3, H, W)`` with all but a square of patches in grey."""
    shown = torch.full_like(image, GREY)
    window = (slice(None), *(slice(PATCH * along.start, PATCH * along.stop) for along in patches))
    shown[window] = image[window]
    return shown


MEASURES = {
    "mean": lambda patch_map, patches: patch_map.mean(),
    "largest": lambda patch_map, patches: patch_map.max(),
    "in the square": lambda patch_map, patches: patch_map[patches].mean(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=200)
    parser.add_argument("--crops", type=int, default=8, help="of each photo")
    parser.add_argument("--top", type=int, default=5, help="crops for each neuron")
    parser.add_argument("--random", type=int, default=4, help="random squares of each crop")
    parser.add_argument("--side", type=int, default=5, help="of a square, in patches")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    images = crops_of_photos(arguments.crops, arguments.seed)
    vit = captum_vit.adapt(load_teacher())
    normalized = vit.preprocessing.normalize(images)
    for reduction in ("mean", "max"):
        top = captum_vit.top_images(
            vit, TensorDataset(normalized), k=arguments.top, reduction=reduction, batch_size=16, progress=False
        )
        everyone = [f"{site.name}:{unit}" for site in vit.sites for unit in range(site.units)]
        live = [address for address in everyone if top.best(address)[0].activation > 0]
        chosen = rng.choice(live, arguments.neurons, replace=False).tolist()
        print(f"ranked by {reduction}: {len(images)} crops; {len(live)} of {len(everyone)} neurons are live")
        report(vit, [(address, compare(vit, address, top, images, rng, arguments)) for address in track(chosen)])


def compare(
    vit: captum_vit.AdaptedModel,
    address: str,
    top: captum_vit.TopImages,
    images: Tensor,
    rng: np.random.Generator,
    arguments: argparse.Namespace,
) -> dict[str, bool]:
    """Whether the squares at the peaks excite a neuron more than random ones, by each measure."""
    best = torch.tensor([found.index for found in top.best(address)])
    squares, shown = [], []
    for index, patch_map in zip(best, vit.patch_map(vit.preprocessing.normalize(images[best]), address), strict=True):
        peak = divmod(int(patch_map.argmax()), patch_map.shape[1])
        places = [peak, *rng.integers(patch_map.shape[0], size=(arguments.random, 2)).tolist()]
        squares += [square(row, column, arguments.side) for row, column in places]
        shown += [alone(images[index], patches) for patches in squares[-len(places) :]]
    maps = vit.patch_map(vit.preprocessing.normalize(torch.stack(shown)), address)
    excited = {}
    for name, measure in MEASURES.items():
        values = torch.stack([measure(*pair) for pair in zip(maps, squares, strict=True)])
        values = values.unflatten(0, (len(best), arguments.random + 1))
        excited[name] = bool(values[:, 0].mean() > values[:, 1:].mean())
    return excited


def report(vit: captum_vit.AdaptedModel, found: list[tuple[str, dict[str, bool]]]) -> None:
    """Print the share of neurons by site and measure."""
    print(f"| site | neurons | {' | '.join(MEASURES)} |")
    print(f"|---|---|{'---|' * len(MEASURES)}")
    for name in [site.name for site in vit.sites]:
        at_site = [excited for address, excited in found if address.startswith(f"{name}:")]
        counts = [str(sum(excited[measure] for excited in at_site)) for measure in MEASURES]
        print(f"| {name} | {len(at_site)} | {' | '.join(counts)} |")
    shares = [f"{np.mean([excited[measure] for _, excited in found]):.1%}" for measure in MEASURES]
    print(f"| all | {len(found)} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
