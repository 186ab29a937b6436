"""What matters on an accelerator, measured on whatever device it is given, as tables for the documentation.

A step of `captum_vit.render` over the bare minimum (see render_step.py), with peak memory where the device tells it;
neurons an hour by two recipes; images a second of `captum_vit.top_images` over those of the bare model. Ratios are
medians of alternating runs in one process; every timing ends when the device has finished.

    python tests/benchmarks/accelerator.py [--device auto] [--models deit_small_patch16_224 vit_base_patch16_224]
        [--dtypes float32 bfloat16] [--images 8 64 256] [--runs 7] [--ranked 2048]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import timm
import torch
from render_step import bare_minimum

import captum_vit
from captum_vit.optvis.loop import RenderLoop, copies_of
from captum_vit.optvis.losses import Target
from captum_vit.optvis.plan import RenderPlan
from captum_vit.probes.devices import find_device
from captum_vit.probes.twin import frozen_twin


class Clock:
    """Times work on a device, and its peak memory where the device tells it."""

    def __init__(self, device: torch.device) -> None:
        self.module = None if device.type == "cpu" else getattr(torch, device.type)

    def wait(self) -> None:
        """Until the device has finished."""
        if self.module is not None:
            self.module.synchronize()

    def seconds(self, work: Callable[[], object], times: int) -> float:
        """Seconds that work takes, each time."""
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - start) / times

    def peak(self, work: Callable[[], object]) -> float:
        """Peak memory of work over what was there before, in MiB; NaN where the device does not tell."""
        if not hasattr(self.module, "max_memory_allocated"):
            return float("nan")
        self.wait()
        before = self.module.memory_allocated()
        self.module.reset_peak_memory_stats()
        work()
        self.wait()
        return (self.module.max_memory_allocated() - before) / 2**20


def build(name: str, device: torch.device):
    """One of timm's models at random weights, with the neurons of its middle block adapted, and the bare model."""
    bare = timm.create_model(name).eval().requires_grad_(False).to(device)
    with captum_vit.adapt(bare) as vit:
        sites = vit.sites
    return bare, sites[len(sites) // 2], captum_vit.adapt(timm.create_model(name).eval().to(device))


def loop_of(vit, site: str, recipe: str, neurons: int, dtype: str, steps: int) -> RenderLoop:
    """A render of some neurons of a site."""
    plan = RenderPlan.of(vit, recipe=recipe, dtype=dtype, steps=steps)
    twin = frozen_twin(vit, plan.torch_dtype if dtype != "float32" else None)
    return RenderLoop(twin, [Target.of(twin, f"{site}:{unit}") for unit in range(neurons)], plan)


def steps_table(arguments: argparse.Namespace, device: torch.device, clock: Clock) -> None:
    """A step of the paper's recipe over the bare minimum."""
    print("| model, middle block | dtype | images | bare minimum, ms | render, ms | ratio | peak memory, ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.models:
        bare, site, vit = build(name, device)
        for dtype in arguments.dtypes:
            for images in arguments.images:
                half = None if dtype == "float32" else getattr(torch, dtype)
                minimum = bare_minimum(bare, site, images, device.type, half)
                count = (arguments.runs + 1) * arguments.steps + 2
                loop = loop_of(vit, site.name, "ghiasi2022", max(1, images // 8), dtype, count)
                step = partial(next, loop.steps())
                minimum(), step()
                peaks = [clock.peak(work) for work in (minimum, step)]
                for work in (minimum, step):
                    clock.seconds(work, arguments.steps)
                times = [
                    [clock.seconds(w, arguments.steps) for w in (minimum, step)] for _ in range(arguments.runs - 1)
                ]
                theirs, ours = (1000 * median(column) for column in zip(*times, strict=True))
                ratio, memory = median(b / a for a, b in times), peaks[1] / peaks[0]
                print(
                    f"| {name} | {dtype} | {images} | {theirs:.2f} | {ours:.2f} | {ratio:.2f} | {memory:.2f} |",
                    flush=True,
                )


def neurons_table(arguments: argparse.Namespace, device: torch.device, clock: Clock) -> None:
    """Neurons an hour, from the time of a step."""
    print("\n| model, middle block | dtype | recipe | neurons at a time | neurons an hour |")
    print("|---|---|---|---|---|")
    for name in arguments.models:
        _, site, vit = build(name, device)
        for dtype in arguments.dtypes:
            for recipe in ("ghiasi2022", "fourier"):
                plan = RenderPlan.of(vit, recipe=recipe)
                neurons = max(1, max(arguments.images) // copies_of(plan))
                loop = loop_of(vit, site.name, recipe, neurons, dtype, 2 + arguments.runs * arguments.steps)
                step = partial(next, loop.steps())
                step()
                step()
                spent = median(clock.seconds(step, arguments.steps) for _ in range(arguments.runs))
                hourly = 3600 * neurons / (spent * plan.steps)
                print(f"| {name} | {dtype} | {recipe} | {neurons} | {hourly:,.0f} |", flush=True)


def ranking_table(arguments: argparse.Namespace, device: torch.device, clock: Clock) -> None:
    """Images a second of a pass that ranks every unit, over those of the bare model; images wait in memory."""
    print("\n| model, all units | reduction | bare, images/s | ranked, images/s | ratio |")
    print("|---|---|---|---|---|")
    for name in arguments.models:
        bare, _, vit = build(name, device)
        images = torch.rand(arguments.ranked, 3, *vit.preprocessing.size)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=64)

        @torch.no_grad()
        def plain(bare=bare, loader=loader) -> None:
            for (batch,) in loader:
                bare(batch.to(device))

        for reduction in ("mean", "max"):
            ranked = partial(captum_vit.top_images, vit, loader, 10, reduction=reduction, progress=False)
            times = [[clock.seconds(work, 1) for work in (plain, ranked)] for _ in range(max(2, arguments.runs // 2))]
            theirs, ours = (arguments.ranked / median(column) for column in zip(*times[1:], strict=True))
            print(f"| {name} | {reduction} | {theirs:.0f} | {ours:.0f} | {ours / theirs:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", nargs="+", default=["deit_small_patch16_224", "vit_base_patch16_224"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--images", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--ranked", type=int, default=2048, help="images to rank")
    arguments = parser.parse_args()
    place = find_device(arguments.device)
    print(f"On {place.words}, PyTorch {torch.__version__}.\n")
    clock = Clock(place.device)
    for table in (steps_table, neurons_table, ranking_table):
        table(arguments, place.device, clock)


if __name__ == "__main__":
    main()
