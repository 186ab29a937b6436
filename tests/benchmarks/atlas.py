"""What an atlas costs, and what it costs more than its parts, as tables for the documentation.

Overhead: CPU time of `make_atlas` in this process over that of `top_images`, the cards' maps and `render` on the same
work, in alternating runs. Workers: wall time of one and of two processes, without their start. Memory: peak of a
process that makes an atlas, of few neurons and photos and of many, over that of one render batch and one ranking batch
alone. Size: bytes a neuron, by kind of file.

    python tests/benchmarks/atlas.py [overhead] [workers] [memory] [size] [--model deit_micro] [--neurons 64]
        [--steps 32] [--photos DIR] [--runs 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

import captum_vit
from captum_vit.atlas.engines.processes import Processes
from captum_vit.atlas.making import make_atlas, undertake
from captum_vit.cards.photos import most_activating
from captum_vit.models import default_crops
from captum_vit.probes.selection import select_neurons


def main() -> None:
    """Print what was asked for."""
    kinds = {"overhead": overhead, "workers": workers, "memory": memory, "size": size}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(kinds))
    parser.add_argument("--model", default="deit_micro")
    parser.add_argument("--neurons", type=int, default=64)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in arguments.kinds:
        kinds[kind](arguments)


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every atlas here is made with."""
    return {"steps": arguments.steps, "device": "cpu", "progress": False}


def images(arguments: argparse.Namespace) -> list[Path]:
    """What is ranked."""
    return [arguments.photos] if arguments.photos else list(default_crops())


def neurons(arguments: argparse.Namespace) -> list[str]:
    """The neurons of one site in the middle."""
    vit = captum_vit.load_model(arguments.model)
    site = vit.sites[len(vit.sites) // 2]
    return [f"{site.name}:0-{min(arguments.neurons, site.units) - 1}"]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process for some work."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def overhead(arguments: argparse.Namespace) -> None:
    """An atlas over its parts."""
    vit, chosen = captum_vit.load_model(arguments.model), neurons(arguments)
    addresses = select_neurons(vit, chosen)
    files = images(arguments)
    source = files[0] if arguments.photos else files

    def parts() -> None:
        top = captum_vit.top_images(vit, source, 10, batch_size=16, progress=False)
        most_activating(vit, addresses, top, k=10, batch_size=16, progress=False)
        captum_vit.render(vit, addresses, steps=arguments.steps, progress=False)

    def atlas() -> None:
        with tempfile.TemporaryDirectory() as folder:
            make_atlas(Path(folder) / "atlas", arguments.model, files, neurons=chosen, **settings(arguments))

    ratios, seconds = [], []
    for _ in range(arguments.runs):
        seconds.append((cpu_seconds(parts), cpu_seconds(atlas)))
        ratios.append(seconds[-1][1] / seconds[-1][0])
    alone, whole = (median(each) for each in zip(*seconds, strict=True))
    print(
        f"overhead: {len(addresses)} neurons, {arguments.steps} steps: parts {alone:.1f} s of CPU, atlas {whole:.1f} s"
    )
    print(f"  atlas over its parts: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def workers(arguments: argparse.Namespace) -> None:
    """Two processes over one."""
    taken = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "atlas"
            undertaking = undertake(
                out,
                arguments.model,
                images(arguments),
                neurons=neurons(arguments),
                device="cpu",
                settings={"steps": arguments.steps, "units_a_piece": 4},
            )
            out.mkdir()
            undertaking.images.save(out)
            undertaking.manifest.save(out)
            with Processes(count).crew(undertaking.job, undertaking.vit) as crew:
                rankings = list(undertaking.manifest.ranking_pieces())
                crew.do(rankings[:count], lambda progress: None)  # the processes are there now
                begin = time.perf_counter()
                crew.do(undertaking.manifest.render_pieces(), lambda progress: None)
                taken[count] = time.perf_counter() - begin
    print(f"workers: 1 takes {taken[1]:.1f} s, 2 take {taken[2]:.1f} s: {taken[1] / taken[2]:.2f} times as fast")


def memory(arguments: argparse.Namespace) -> None:
    """Peak memory of a process, in MiB."""
    alone = peak(_batches_alone, arguments)
    for count, some in ((8, 32), (arguments.neurons, len(images(arguments)))):
        made = peak(_atlas_of, arguments, count, some)
        over = made / alone
        print(f"memory: {count} neurons, {some} photos: {made:.0f} MiB, {over:.2f} of {alone:.0f} for batches alone")


def peak(work: Callable[..., None], *arguments: Any) -> float:
    """Peak memory of a process that does some work, in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (work, arguments))


def _peak(work: Callable[..., None], arguments: tuple[Any, ...]) -> float:
    torch.set_num_threads(1)
    work(*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _batches_alone(arguments: argparse.Namespace) -> None:
    vit = captum_vit.load_model(arguments.model)
    captum_vit.top_images(vit, images(arguments)[:16], 10, batch_size=16, progress=False)
    site = vit.sites[len(vit.sites) // 2].name
    captum_vit.render(vit, [f"{site}:{unit}" for unit in range(8)], steps=arguments.steps, progress=False)


def _atlas_of(arguments: argparse.Namespace, count: int, some: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        chosen = neurons(argparse.Namespace(**{**vars(arguments), "neurons": count}))
        make_atlas(
            Path(folder) / "atlas", arguments.model, images(arguments)[:some], neurons=chosen, **settings(arguments)
        )


def size(arguments: argparse.Namespace) -> None:
    """Bytes a neuron, by kind of file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "atlas"
        made = make_atlas(out, arguments.model, images(arguments), neurons=neurons(arguments), **settings(arguments))
        kinds: dict[str, int] = {}
        for path in out.rglob("*"):
            if path.is_file():
                kind = f"{path.relative_to(out).parts[0]} {path.suffix}"
                kinds[kind] = kinds.get(kind, 0) + path.stat().st_size
        of_model = sum(site.units for site in made.manifest.sites)
        for kind, total in sorted(kinds.items()):
            over = of_model if kind.startswith("rankings") else len(made)
            print(f"size: {kind}: {total / over:.0f} bytes a neuron")


if __name__ == "__main__":
    main()
