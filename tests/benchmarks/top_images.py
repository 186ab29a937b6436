"""What ranking every unit of every site costs: images per second over those of the bare model with the same loader.

python tests/benchmarks/top_images.py [MODEL] [--images 96] [--runs 5]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import timm
import torch
from torch.utils.data import DataLoader, Dataset

import captum_vit


class Noise(Dataset):
    """Images that cost little to make and are the same each time."""

    def __init__(self, images: int, size: tuple[int, int]) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.randn(3, *self.size, generator=torch.Generator().manual_seed(index))


@torch.no_grad()
def bare(vit, loader) -> None:
    for images in loader:
        vit.model(images)


def ranked(reduction: str):
    return lambda vit, loader: captum_vit.top_images(vit, loader, 10, reduction=reduction, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    # Nothing watches the probes of an adapted model while the bare one runs: it then costs what the model costs.
    vit = captum_vit.adapt(timm.create_model(arguments.model).eval())
    units = sum(site.units for site in vit.sites)
    print(
        f"| {arguments.model}, {units} units | batch | bare, images/s | ranked, images/s | ratio | ratio of each run |"
    )
    print("|---|---|---|---|---|---|")
    for batch in arguments.batch:
        loader = DataLoader(Noise(arguments.images, vit.preprocessing.size), batch_size=batch)
        passes = {"bare": bare, "mean": ranked("mean"), "max": ranked("max")}
        rates: dict[str, list[float]] = {name: [] for name in passes}
        bare(vit, DataLoader(Noise(batch, vit.preprocessing.size), batch_size=batch))  # to warm up
        for _ in range(arguments.runs):
            for name, run in passes.items():
                start = time.perf_counter()
                run(vit, loader)
                rates[name].append(arguments.images / (time.perf_counter() - start))
        for name in ("mean", "max"):
            ratios = [ours / theirs for ours, theirs in zip(rates[name], rates["bare"], strict=True)]
            each = " ".join(f"{ratio:.2f}" for ratio in ratios)
            theirs, ours = median(rates["bare"]), median(rates[name])
            print(f"| {name} | {batch} | {theirs:.2f} | {ours:.2f} | {ours / theirs:.3f} | {each} |")


if __name__ == "__main__":
    main()
