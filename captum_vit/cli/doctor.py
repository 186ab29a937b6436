"""The command ``captum-vit doctor``: what is installed, what computes, what is missing, and what would be slow."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version

import typer
from rich.markup import escape

from captum_vit.cli.console import stderr, stdout
from captum_vit.storage.files import shown

# Distributions that every computation needs, and that come with the package.
NEEDED = ("torch", "torchvision", "timm", "captum", "numpy", "pillow", "matplotlib", "safetensors")
# Of each extra of the package, the distribution that it brings and what that is for.
EXTRAS = {
    "lucent": ("torch-lucent", "Lucent's own loop, captum_vit.render_vis"),
    "atlas": ("pyarrow", "atlases of whole models"),
    "ray": ("ray", "atlases on a Ray cluster"),
    "transformers": ("transformers", "models transformers:NAME"),
    "open-clip": ("open_clip_torch", "models open_clip:NAME, and names for neurons"),
}
# What is timed: a model that many look at, and by how much a format must win or lose to be worth a word.
_EXAMPLE, _SITE, _NOTABLE = "deit_small_patch16_224", "blocks.8:42", 1.2
BROKEN = 1


def doctor() -> None:
    """Look at this installation: versions, devices, plugins, extras that are missing, and what would be slow and why.

    Takes some seconds, as it times a render. The exit code is 0 unless something is broken.
    """
    problems = [*_versions(), *_devices(), *_plugins(), *_models()]
    _extras()
    if not any(problem.startswith("torch") for problem in problems):
        _speed()
    _heading("Broken" if problems else "Nothing is broken")
    for problem in problems:
        stdout().print(f"  [red]{escape(shown(problem))}[/]")
    if problems:
        raise typer.Exit(BROKEN)


def _heading(words: str) -> None:
    stdout().print(f"[bold]{words}[/]")


def _line(name: str, words: str) -> None:
    stdout().print(f"  {escape(name):<14} {escape(shown(words))}")


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _versions() -> list[str]:
    """Print versions; gives what is not installed though it must be."""
    _heading("Versions")
    _line("captum-vit", str(_installed("captum-vit")))
    _line("Python", f"{platform.python_version()} ({sys.platform}, {platform.machine()})")
    for name in NEEDED:
        _line(name, _installed(name) or "not installed")
    return [f'{name} is not installed; pip install "{name}"' for name in NEEDED if _installed(name) is None]


def _devices() -> list[str]:
    """Print what there is to compute on; gives what does not work though it should."""
    from captum_vit.probes.devices import accelerator, find_device, has_driver

    _heading("Devices")
    try:
        import torch

        place = find_device()
    except Exception as error:  # a torch that is broken fails in many ways
        return [f"torch cannot compute here: {error}"]
    _line("auto", f"{place.words} is where commands compute")
    _line("cpu", f"{torch.get_num_threads()} threads on {_processors()} processors")
    if limited := os.environ.get("OMP_NUM_THREADS"):
        _line("", f"OMP_NUM_THREADS={limited} limits the threads")
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        half = "with" if torch.cuda.is_bf16_supported() else "without"
        _line(f"cuda:{number}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {half} bfloat16")
    if accelerator() is None and has_driver():
        _line(
            "", f"a driver of NVIDIA or AMD is here, but torch {torch.__version__} sees no GPU of it: see pytorch.org"
        )
    return []


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plugins() -> list[str]:
    """Print where adapters come from; gives the plugins that failed."""
    from captum_vit.errors import PluginWarning
    from captum_vit.probes.plugins import registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # told below
        found = registry()
    _heading("Plugins")
    by = [registered.distribution for registered in found.adapters]
    for distribution in dict.fromkeys(by):
        _line(distribution, f"{by.count(distribution)} families of models")
    return [str(failure) for failure in found.failures]


def _models() -> list[str]:
    """Try the embedded models; gives those that are damaged."""
    from captum_vit import models
    from captum_vit.errors import CorruptedWeightsError

    damaged = []
    for name in models.available():
        try:
            models.load(name)
        except CorruptedWeightsError as error:
            damaged.append(str(error))
    return damaged


def _extras() -> None:
    """Print what is installed beside the package, and what else could be."""
    _heading("Extras")
    for extra, (distribution, purpose) in EXTRAS.items():
        there = _installed(distribution)
        how = f"{distribution} {there}" if there else f'not installed: pip install "captum-vit[{extra}]"'
        _line(extra, f"{purpose} ({how})")


def _speed() -> None:
    """Time a render on the device that commands take, and print what is slow and why."""
    from captum_vit.optvis.plan import RenderPlan
    from captum_vit.optvis.timing import seconds_of_batch
    from captum_vit.probes.devices import find_device
    from captum_vit.progress import duration

    _heading("How fast")
    device = find_device().device
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if device.type == "cpu" and busy > _processors():
        _line("", f"everything is slow, as the machine is busy: load {busy:.1f} on {_processors()} processors")
        _line("", "threads then wait for one another; with OMP_NUM_THREADS=1 they do not")
        return
    with stderr().status(f"Timing {_EXAMPLE} ..."):
        from captum_vit.loading.build import load_model

        vit = load_model(_EXAMPLE, random_weights=True).to(device)
        seconds = {
            dtype: seconds_of_batch(vit, [_SITE], RenderPlan.of(vit, dtype=dtype)) for dtype in ("float32", "bfloat16")
        }
    plan = RenderPlan.of(vit)
    _line("render", f"a neuron of {_EXAMPLE}: about {duration(seconds['float32'])} (recipe {plan.recipe.name})")
    gain = seconds["float32"] / seconds["bfloat16"]
    if gain > _NOTABLE:
        _line("", f"--dtype bfloat16 renders {gain:.1f} times as fast here")
    elif gain < 1 / _NOTABLE:
        _line(
            "",
            f"--dtype bfloat16 takes {1 / gain:.1f} times as long here, as this device has no fast way to compute it",
        )
    if vit.device.type == "cpu":
        _line("", "a GPU renders many times as fast; without one, fewer --steps and a smaller --size help")
