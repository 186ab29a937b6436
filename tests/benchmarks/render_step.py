"""What a step of `captum_vit.render` costs against the bare minimum: ratios, alternating runs in one process.

The bare minimum is the truncated forward pass of the unadapted model up to the neuron and the backward pass to the
input, on the same batch, with frozen weights. One neuron with the eight copies of the paper's recipe is a batch of 8.

    python tests/benchmarks/render_step.py [MODEL] [--neurons 1] [--steps 4] [--runs 7]
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from statistics import median

import timm
import torch

import captum_vit
from captum_vit.optvis.losses import Target
from captum_vit.optvis.recipes import find_recipe
from captum_vit.optvis.rendering import RenderLoop
from captum_vit.probes.layers import frozen


class Reached(BaseException):
    """The neuron was reached."""


def bare_minimum(model, site, copies: int):
    """A function that does a step's unavoidable work on the unadapted model."""
    size = model.pretrained_cfg["input_size"]
    hidden = []

    def stop(module, args):
        hidden[:] = [args[0]]
        raise Reached

    def step() -> None:
        images = torch.rand(copies, *size, requires_grad=True)
        handle = site.reads.register_forward_pre_hook(stop)
        try:
            model(images)
        except Reached:
            pass
        finally:
            handle.remove()
        hidden[0][:, site.prefix_tokens :, 7].mean().backward()

    return step


def per_step(step, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--sites", type=int, nargs="+", default=[0, 2, 5, 8, 11])
    parser.add_argument("--neurons", type=int, default=1, help="rendered at once, eight copies each")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    bare = timm.create_model(arguments.model).eval().requires_grad_(False)
    vit = captum_vit.adapt(timm.create_model(arguments.model).eval())
    recipe = find_recipe("ghiasi2022")
    print(f"| {arguments.model}, site | bare minimum, s | render, s | ratio |")
    print("|---|---|---|---|")
    for number in arguments.sites:
        site = vit.sites[number]
        minimum = bare_minimum(bare, captum_vit.adapt(bare).sites[number], copies=8 * arguments.neurons)
        captum_vit.restore(bare)
        steps = (arguments.runs + 1) * arguments.steps + 1
        targets = [Target.of(vit, f"{site.name}:{unit}") for unit in range(arguments.neurons)]
        loop = RenderLoop(vit, targets, recipe, steps, vit.preprocessing.size, seed=0)
        with frozen(vit):
            rendering = loop.steps()
            next(rendering)
            per_step(minimum, arguments.steps)
            per_step(partial(next, rendering), arguments.steps)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(arguments.runs):
                times[0].append(per_step(minimum, arguments.steps))
                times[1].append(per_step(partial(next, rendering), arguments.steps))
        theirs, ours = map(median, times)
        print(f"| {site.name} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
