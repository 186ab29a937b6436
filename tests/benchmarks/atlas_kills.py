"""SIGKILL at random moments, of whoever makes an atlas, and the same bytes at the end.

Each round makes a small atlas, kills what it is told to once at a random moment (the driver, which is then started
again; a worker; a Ray actor; a node of Ray's own cluster), and compares all files with those of an undisturbed run.

    python tests/benchmarks/atlas_kills.py [driver] [worker] [actor] [node] [--rounds 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PROGRAM = """
import sys
import captum_vit
from captum_vit.models import default_photos

if __name__ == "__main__":
    engine = None
    if sys.argv[2] == "processes":
        from captum_vit.atlas.engines.processes import Processes
        engine = Processes(2)
    elif sys.argv[2]:
        from captum_vit.atlas.engines.ray import Ray
        engine = Ray(sys.argv[2], 1)
    captum_vit.make_atlas(sys.argv[1], "deit_micro", default_photos()[:8], neurons=["blocks.1:0-7", "blocks.4:304-311"],
        engine=engine, device="cpu", progress=False, steps=4, k=3, units_a_piece=2, images_a_piece=2, batch_size=2)
"""


def main() -> None:
    """Kill, and count the rounds that ended in the same bytes."""
    kinds: dict[str, Callable[[Path, random.Random, float], None]] = {
        "driver": kill_driver,
        "worker": kill_worker,
        "actor": kill_actor,
        "node": remove_node,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(kinds))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        start(Path(folder) / "expected", "").wait()
        seconds = time.perf_counter() - begin
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        expected = contents(Path(folder) / "expected")
        for kind in arguments.kinds:
            same = 0
            for number in range(arguments.rounds):
                out = Path(folder) / f"{kind}-{number}"
                kinds[kind](out, draw, seconds)
                same += contents(out) == expected
                shutil.rmtree(out)
            print(f"{kind}: the same bytes in {same} of {arguments.rounds} rounds", flush=True)


def start(out: Path, engine: str) -> subprocess.Popen[bytes]:
    """A process that makes the atlas."""
    program = out.parent / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen([sys.executable, program, out, engine])


def contents(folder: Path) -> dict[str, bytes]:
    """All files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begun(out: Path, running: subprocess.Popen[bytes]) -> None:
    """Wait until there is a manifest."""
    while not (out / "manifest.json").exists() and running.poll() is None:
        time.sleep(0.01)


def wait_for(running: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait so long, or until the process has ended."""
    with suppress(subprocess.TimeoutExpired):
        running.wait(seconds)


def kill_driver(out: Path, draw: random.Random, seconds: float) -> None:
    """Of a driver without workers, or with two, at a moment of its life; then start it again."""
    engine = draw.choice(("", "processes"))
    running = start(out, engine)
    wait_for(running, draw.uniform(0, 1.5 * seconds))
    running.kill()
    running.wait()
    start(out, engine).wait()


def kill_worker(out: Path, draw: random.Random, seconds: float) -> None:
    """Of two, at a moment of the work."""
    running = start(out, "processes")
    begun(out, running)
    wait_for(running, draw.uniform(0, 1.5 * seconds))
    kill_one(psutil.Process(running.pid).children(recursive=True), "spawn_main", draw)
    running.wait()


def kill_actor(out: Path, draw: random.Random, seconds: float) -> None:
    """The only one, of a Ray that this process started."""
    cluster = two_nodes()
    running = start(out, cluster.address)
    begun(out, running)
    wait_for(running, draw.uniform(0, 2 * seconds))
    kill_one(psutil.Process().children(recursive=True), "ray::_Actor", draw)
    running.wait()
    cluster.shutdown()


def remove_node(out: Path, draw: random.Random, seconds: float) -> None:
    """One of two with room for actors."""
    cluster = two_nodes()
    node = cluster.add_node(num_cpus=1)
    running = start(out, cluster.address)
    begun(out, running)
    wait_for(running, draw.uniform(0, 2 * seconds))
    cluster.remove_node(node, allow_graceful=False)
    running.wait()
    cluster.shutdown()


def two_nodes() -> Any:
    """Ray's own cluster on this machine: a head without room for actors, and a node with room for one."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    return cluster


def kill_one(processes: list[psutil.Process], word: str, draw: random.Random) -> None:
    """Kill one of the processes whose command has a word in it, if there is any."""
    found = []
    for process in processes:
        try:
            if any(word in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    if found:
        draw.choice(found).kill()


if __name__ == "__main__":
    main()
