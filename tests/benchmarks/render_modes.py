"""What half precision and torch.compile gain a render, and what they change: ratios to float32, alternating runs.

Compiling is not offered by `captum_vit.render`, as it wins nothing on a CPU; here the model in the loop is compiled.

python tests/benchmarks/render_modes.py [MODEL] [--site 5] [--neurons 1] [--steps 4] [--runs 5] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from render_step import build

import captum_vit
from captum_vit.optvis.loop import RenderLoop
from captum_vit.optvis.losses import Target
from captum_vit.optvis.plan import RenderPlan
from captum_vit.probes.twin import frozen_twin

MODES = {
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    "float16": ("float16", False),
    "compiled": ("float32", True),
    "compiled, bfloat16": ("bfloat16", True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--site", type=int, default=5)
    parser.add_argument("--neurons", type=int, default=1)
    parser.add_argument("--recipe", default="ghiasi2022")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    vit = captum_vit.adapt(build(arguments.model)).to(arguments.device)
    steps = arguments.steps * arguments.runs + 1
    times: dict[str, list[float]] = {mode: [] for mode in arguments.modes}
    loops, iterators = {}, {}
    for mode in arguments.modes:
        dtype, compiled = MODES[mode]
        plan = RenderPlan.of(vit, recipe=arguments.recipe, steps=steps, dtype=dtype)
        twin = frozen_twin(vit, plan.torch_dtype if dtype != "float32" else None)
        targets = [Target.of(twin, f"{twin.sites[arguments.site].name}:{unit}") for unit in range(arguments.neurons)]
        loops[mode] = RenderLoop(twin, targets, plan)
        if compiled:
            loops[mode].losses.vit = torch.compile(twin)
        iterators[mode] = loops[mode].steps()
        next(iterators[mode])  # compiles, where there is something to compile
    for _ in range(arguments.runs):
        for mode, iterator in iterators.items():
            start = time.perf_counter()
            for _ in range(arguments.steps):
                next(iterator)
            loops[mode].history.sum().item()  # waits for the device
            times[mode].append((time.perf_counter() - start) / arguments.steps)
    print(f"| {arguments.model}, site {arguments.site} | s a step | times faster | mean difference of pixels |")
    print("|---|---|---|---|")
    reference = loops["float32"].images().detach()
    for mode, spent in times.items():
        difference = (loops[mode].images().detach() - reference).abs().mean().item()
        print(f"| {mode} | {median(spent):.3f} | {median(times['float32']) / median(spent):.2f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
