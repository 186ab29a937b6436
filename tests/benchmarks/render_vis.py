"""How much faster `captum_vit.render_vis` is than Lucent's: ratios, alternating runs in one process, same images.

python tests/benchmarks/render_vis.py [MODEL] [--steps 4] [--runs 5]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np
import timm
import torch
from lucent.optvis import param, render

import captum_vit


def seconds(render_vis, vit, layer: str, batch: int, steps: int) -> tuple[float, np.ndarray]:
    torch.manual_seed(0)
    np.random.seed(0)
    start = time.perf_counter()
    (image,) = render_vis(
        vit,
        f"{layer}:7",
        lambda: param.image(128, batch=batch),
        thresholds=(steps,),
        preprocess=True,
        show_image=False,
        progress=False,
    )
    return time.perf_counter() - start, image


def steady(render_vis, vit, layer: str, batch: int, steps: int) -> tuple[float, np.ndarray]:
    """Seconds a step, without the first: it finds out what the objective reads and is the same in both."""
    first, _ = seconds(render_vis, vit, layer, batch, 1)
    whole, image = seconds(render_vis, vit, layer, batch, steps + 1)
    return (whole - first) / steps, image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--sites", type=int, nargs="+", help="numbers of the sites; five spread over the depth if none")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    vit = captum_vit.adapt(timm.create_model(arguments.model).eval())
    sites = arguments.sites or [round(i * (len(vit.sites) - 1) / 4) for i in range(5)]
    print(f"| {arguments.model}, site | batch | Lucent, s a step | captum-vit, s a step | ratio | largest difference |")
    print("|---|---|---|---|---|---|")
    for number in sites:
        site = vit.sites[number]
        for batch in arguments.batch:
            times = {render.render_vis: [], captum_vit.render_vis: []}
            images = {}
            for _ in range(arguments.runs):
                for render_vis, spent in times.items():
                    step, images[render_vis] = steady(render_vis, vit, site.layer, batch, arguments.steps)
                    spent.append(step)
            theirs, ours = (median(spent) for spent in times.values())
            difference = np.abs(np.subtract(*images.values())).max()
            print(f"| {site.name} | {batch} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.2f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
