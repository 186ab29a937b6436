"""Peak memory of `captum_vit.render` against the bare minimum's, and as the number of neurons grows.

Each figure is the largest resident memory of a process of its own, less what it held with the model loaded and one
small pass done.

    python tests/benchmarks/render_memory.py [MODEL] [--site 5] [--neurons 8 16 32]
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import timm
import torch
from render_step import bare_minimum

import captum_vit

COPIES = 8  # of each neuron's image, in the paper's recipe


def largest_resident() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def peak(work: Callable[..., float], *arguments: object) -> float:
    """What ``work`` measures in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def minimum(model: str, number: int, images: int) -> float:
    bare = timm.create_model(model).eval().requires_grad_(False)
    with captum_vit.adapt(bare) as vit:
        site = vit.sites[number]
    step = bare_minimum(bare, site, images)
    bare_minimum(bare, site, 1)()
    before = largest_resident()
    for _ in range(3):
        step()
    return largest_resident() - before


def rendering(model: str, number: int, neurons: int, batch_size: int) -> float:
    vit = captum_vit.adapt(timm.create_model(model).eval().requires_grad_(False))
    site = vit.sites[number]
    vit.neuron(f"{site.name}:0")(torch.rand(1, 3, *vit.preprocessing.size, requires_grad=True)).sum().backward()
    before = largest_resident()
    addresses = [f"{site.name}:{unit}" for unit in range(neurons)]
    captum_vit.render(vit, addresses, steps=3, batch_size=batch_size, progress=False)
    return largest_resident() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--site", type=int, default=5)
    parser.add_argument("--neurons", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batch-size", type=int, default=2)
    arguments = parser.parse_args()
    model, site, batch = arguments.model, arguments.site, arguments.batch_size
    smallest = peak(minimum, model, site, COPIES * batch)
    print(f"| {model}, site {site}, {batch} neurons at a time | peak, MiB | over the bare minimum |")
    print("|---|---|---|")
    print(f"| bare minimum, {COPIES * batch} images | {smallest:.0f} | |")
    for neurons in arguments.neurons:
        used = peak(rendering, model, site, neurons, batch)
        print(f"| render, {neurons} neurons | {used:.0f} | {used / smallest:.2f} |")


if __name__ == "__main__":
    main()
