"""What reading a large photo for a model costs: as this package does, over timm's own transform of Pillow's image.

Times are medians of alternating runs in one process; peak memory is that of a process of its own for each, less what
it held with a small photo read.

    python tests/benchmarks/reading.py [MODEL] [--megapixels 24] [--runs 15]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import timm
import torch
from PIL import Image
from render_memory import largest_resident, peak
from timm.data import create_transform, resolve_model_data_config

import captum_vit
from captum_vit.data.dataset import ImageFiles


def without_weights(model: str) -> torch.nn.Module:
    """The model in no memory, as only its configuration is asked for."""
    with torch.device("meta"):
        return timm.create_model(model).eval()


def timms(model: str) -> Callable[[Path], torch.Tensor]:
    transform = create_transform(**resolve_model_data_config(without_weights(model)), is_training=False)
    return lambda path: transform(Image.open(path).convert("RGB"))


def ours(model: str) -> Callable[[Path], torch.Tensor]:
    with captum_vit.adapt(without_weights(model)) as vit:
        of = ImageFiles.of([], vit)
    return lambda path: ImageFiles([path], of.crop, of.preprocessing)[0]


READERS = {"timm's transform": timms, "captum-vit": ours}


def memory(name: str, model: str, small: Path, large: Path) -> float:
    read = READERS[name](model)
    read(small)
    before = largest_resident()
    read(large)
    return largest_resident() - before


def photo(path: Path, megapixels: float) -> None:
    """Write a photo of three by two, with something to see everywhere."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    rows, columns = np.mgrid[:height, : height * 3 // 2].astype(np.float32)
    waves = [np.sin(rows / (7 + band)) * np.cos(columns / (11 - band)) for band in range(3)]
    noise = np.random.default_rng(0).normal(0, 0.1, (height, height * 3 // 2, 1))
    pixels = np.stack(waves, axis=2) * 0.4 + noise + 0.5
    Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--megapixels", type=float, default=24)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small.jpg"), Path(folder, "large.jpg")
        # First of all, and in processes of their own: what this one has held at its peak counts for its children.
        peak(photo, small, 0.1)
        peak(photo, large, arguments.megapixels)
        peaks = {name: peak(memory, name, arguments.model, small, large) for name in READERS}
        readers = {name: make(arguments.model) for name, make in READERS.items()}
        seen = [read(large) for read in readers.values()]
        seconds: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(arguments.runs):
            for name, read in readers.items():
                start = time.perf_counter()
                read(large)
                seconds[name].append(time.perf_counter() - start)
    first = next(iter(readers))
    print(
        f"| a JPEG of {arguments.megapixels:g} megapixels, {arguments.model} | time, ms | ratio | peak, MiB | ratio |"
    )
    print("|---|---|---|---|---|")
    for name in readers:
        took, theirs = median(seconds[name]), median(seconds[first])
        memories = f"{peaks[name]:.0f} | {peaks[name] / peaks[first]:.2f}"
        print(f"| {name} | {took * 1e3:.0f} | {took / theirs:.2f} | {memories} |")
    print(f"largest difference of what the model sees: {(seen[0] - seen[1]).abs().max():.1e}")


if __name__ == "__main__":
    main()
