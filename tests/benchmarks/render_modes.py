"""What bfloat16 and torch.compile gain a render, and what they change: ratios to float32, alternating runs.

python tests/benchmarks/render_modes.py [MODEL] [--site 5] [--steps 4] [--runs 5]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np
import timm
import torch

import captum_vit
from captum_vit.optvis.losses import Target
from captum_vit.optvis.recipes import find_recipe
from captum_vit.optvis.rendering import RenderLoop
from captum_vit.probes.layers import frozen

MODES = {
    "float32": {},
    "bfloat16": {"dtype": torch.bfloat16},
    "compiled": {"compile": True},
    "compiled, bfloat16": {"dtype": torch.bfloat16, "compile": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--site", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    vit = captum_vit.adapt(timm.create_model(arguments.model).eval())
    address = f"{vit.sites[arguments.site].name}:7"
    recipe, size = find_recipe("ghiasi2022"), vit.preprocessing.size
    steps = arguments.steps * arguments.runs + 1
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    with frozen(vit):
        loops, iterators = {}, {}
        for mode, settings in MODES.items():
            forward = torch.compile(vit) if "compile" in settings else None
            target = Target.of(vit, address)
            loops[mode] = RenderLoop(vit, [target], recipe, steps, size, 0, settings.get("dtype"), forward)
            iterators[mode] = loops[mode].steps()
            next(iterators[mode])  # compiles, where there is something to compile
        for _ in range(arguments.runs):
            for mode, iterator in iterators.items():
                start = time.perf_counter()
                for _ in range(arguments.steps):
                    next(iterator)
                times[mode].append((time.perf_counter() - start) / arguments.steps)
    print(f"| {arguments.model}, {address} | s a step | times faster | mean difference of pixels after {steps} steps |")
    print("|---|---|---|---|")
    reference = loops["float32"].images().detach()
    for mode, spent in times.items():
        difference = np.abs((loops[mode].images().detach() - reference).numpy()).mean()
        print(f"| {mode} | {median(spent):.3f} | {median(times['float32']) / median(spent):.2f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
