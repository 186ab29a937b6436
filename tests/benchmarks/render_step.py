"""What a step of `captum_vit.render` costs against the bare minimum: ratios, alternating runs in one process.

The bare minimum is the truncated forward pass of the unadapted model up to the neurons and the backward pass to the
input, on as many images as the recipe shows the model, with frozen weights.

    python tests/benchmarks/render_step.py [MODEL] [--recipes ghiasi2022] [--neurons 1] [--sites 0 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from statistics import median

import timm
import torch

import captum_vit
from captum_vit.models import available
from captum_vit.optvis.loop import RenderLoop, copies_of
from captum_vit.optvis.losses import Target
from captum_vit.optvis.plan import RenderPlan
from captum_vit.probes.twin import frozen_twin


class Reached(BaseException):
    """The neuron was reached."""


def build(name: str):
    """An embedded model with its weights, or one of timm's with random ones."""
    return captum_vit.load(name) if name in available() else timm.create_model(name).eval()


def bare_minimum(model, site, images: int, device: str = "cpu", dtype: torch.dtype | None = None):
    """A function that does a step's unavoidable work on the unadapted model."""
    size = model.pretrained_cfg["input_size"]
    inputs = torch.rand(images, *size, device=device, requires_grad=True)
    hidden = []

    def stop(module, args):
        hidden[:] = [args[0]]
        raise Reached

    def step() -> None:
        handle = site.reads.register_forward_pre_hook(stop)
        try:
            with torch.autocast(device, dtype, enabled=dtype is not None):
                model(inputs)
        except Reached:
            pass
        finally:
            handle.remove()
        torch.autograd.grad(hidden[0][:, site.prefix_tokens :, 7].float().mean(), inputs)

    return step


def per_step(step, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="deit_small_patch16_224")
    parser.add_argument("--recipes", nargs="+", default=["ghiasi2022"])
    parser.add_argument("--sites", type=int, nargs="+")
    parser.add_argument("--neurons", type=int, default=1, help="rendered at once")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    bare = build(arguments.model).requires_grad_(False)
    vit = frozen_twin(captum_vit.adapt(build(arguments.model)))
    with captum_vit.adapt(bare) as adapted:
        sites = adapted.sites
    count = (arguments.runs + 1) * arguments.steps + 1
    print(f"| {arguments.model}, {arguments.neurons} neurons, recipe | site | bare minimum, ms | render, ms | ratio |")
    print("|---|---|---|---|---|")
    for recipe in arguments.recipes:
        for number in arguments.sites or range(len(sites)):
            plan = RenderPlan.of(vit, recipe=recipe, steps=count)
            minimum = bare_minimum(bare, sites[number], copies_of(plan) * arguments.neurons)
            name = vit.sites[number].name
            targets = [Target.of(vit, f"{name}:{unit}") for unit in range(arguments.neurons)]
            step = partial(next, RenderLoop(vit, targets, plan).steps())
            step()
            for work in (minimum, step):
                per_step(work, arguments.steps)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(arguments.runs):
                times[0].append(per_step(minimum, arguments.steps))
                times[1].append(per_step(step, arguments.steps))
            theirs, ours = (1000 * median(each) for each in times)
            ratio = median(b / a for a, b in zip(*times, strict=True))
            print(f"| {recipe} | {name} | {theirs:.1f} | {ours:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
