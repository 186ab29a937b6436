"""SIGKILL at random moments, of whoever makes an atlas, and the same bytes at the end.

Each round makes a small atlas, and ends something for good when a random number of its files are there: the process
that gives the work, which is then started again; a worker; Ray's only actor; the node of Ray's own cluster that this
actor is on. Then it compares all files with those of an undisturbed run, and looks for processes that are left.

    python tests/benchmarks/atlas_kills.py [driver] [worker] [actor] [node] [--rounds 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
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

ACTOR, WORKER = "ray::_Actor", "spawn_main"

# Seconds that a process may take to notice that nobody needs it any more.
PATIENCE = 120


class Nodes:
    """Ray's own cluster on this machine: a head without room for actors, and two nodes with room for one each."""

    @cached_property
    def cluster(self) -> Any:
        """The cluster, which is started when a round needs it."""
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        return cluster

    def remove(self, actor: psutil.Process) -> None:
        """Remove the node that an actor is on, with all of its processes."""
        above = {process.pid for process in actor.parents()}
        for node in self.nodes:
            if any(info.process.pid in above for infos in node.all_processes.values() for info in infos):
                self.nodes.remove(node)
                self.cluster.remove_node(node, allow_graceful=False)
                return

    def refill(self) -> None:
        """Another node for one that was removed."""
        if "cluster" in self.__dict__ and len(self.nodes) < 2:
            self.nodes.append(self.cluster.add_node(num_cpus=1))

    def close(self) -> None:
        """End the cluster, if there is one."""
        if "cluster" in self.__dict__:
            self.cluster.shutdown()


@dataclass
class Round:
    """One atlas, and what happens to it."""

    out: Path
    draw: random.Random
    names: frozenset[str]
    nodes: Nodes
    seen: set[str] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)

    @property
    def of_pieces(self) -> int:
        """How many of the files are of pieces, which workers write."""
        return sum(name.startswith(("photos/", "renders/")) for name in self.names)

    def start(self, engine: str) -> subprocess.Popen[bytes]:
        """A process that makes the atlas, in a session of its own, by which its descendants are known."""
        program = self.out.parent / "program.py"
        program.write_text(PROGRAM)
        running = subprocess.Popen([sys.executable, program, self.out, engine], start_new_session=True)
        self.sessions.add(running.pid)
        return running

    def wait_for_moment(self, running: subprocess.Popen[bytes], files: int) -> None:
        """Wait for a random number of files, less than so many, and then a little."""
        wanted = self.draw.randrange(files)
        little = self.draw.uniform(0, 0.2)
        while running.poll() is None and len(self.seen) < wanted:
            self.look()
            time.sleep(0.02)
        with suppress(subprocess.TimeoutExpired):
            running.wait(little)
        self.look()

    def look(self) -> None:
        """Take note of the files; those of rankings are not there for long."""
        with suppress(FileNotFoundError):
            self.seen |= {path.relative_to(self.out).as_posix() for path in self.out.rglob("[!.]*") if path.is_file()}

    def pick(self, word: str, running: subprocess.Popen[bytes]) -> psutil.Process | None:
        """A process whose command has a word in it, as soon as there is one; None if the work is done before."""
        while running.poll() is None:
            if found := sorted(commands(word), key=lambda process: process.pid):
                return self.draw.choice(found)
            time.sleep(0.02)
        return None

    def left(self) -> list[psutil.Process]:
        """Processes of this round that do not end."""
        mine = [process for process in psutil.process_iter() if session(process) in self.sessions]
        return psutil.wait_procs([*mine, *commands(ACTOR)], timeout=PATIENCE)[1]


def kill_driver(this: Round) -> str:
    """The process that gives the work, alone, with two workers, or with Ray, here or on a cluster."""
    kind = this.draw.choice(("alone", "with processes", "with Ray here", "with Ray on a cluster"))
    engines = {"alone": "", "with processes": "processes", "with Ray here": "auto"}
    engine = engines.get(kind) if kind in engines else this.nodes.cluster.address
    running = this.start(engine)
    this.wait_for_moment(running, len(this.names))
    running.kill()
    ended = running.wait()
    left = this.left()
    this.start(engine).wait()
    return f"driver {kind}{'' if ended < 0 else ', done before'}{f', {len(left)} processes went on' if left else ''}"


def kill_worker(this: Round) -> str:
    """One of two processes."""
    running = this.start("processes")
    this.wait_for_moment(running, this.of_pieces)
    worker = this.pick(WORKER, running)
    if worker is not None:
        worker.kill()
    running.wait()
    return "worker" + ("" if worker else ", done before")


def kill_actor(this: Round) -> str:
    """The only one."""
    running = this.start(this.nodes.cluster.address)
    this.wait_for_moment(running, this.of_pieces)
    actor = this.pick(ACTOR, running)
    if actor is not None:
        actor.kill()
    running.wait()
    return "actor" + ("" if actor else ", done before")


def remove_node(this: Round) -> str:
    """The one of two that the only actor is on."""
    running = this.start(this.nodes.cluster.address)
    this.wait_for_moment(running, this.of_pieces)
    actor = this.pick(ACTOR, running)
    if actor is not None:
        this.nodes.remove(actor)
    running.wait()
    this.nodes.refill()
    return "node" + ("" if actor else ", done before")


KINDS: dict[str, Callable[[Round], str]] = {
    "driver": kill_driver,
    "worker": kill_worker,
    "actor": kill_actor,
    "node": remove_node,
}


def main() -> None:
    """Kill, and count the rounds that ended in the same bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"{', '.join(KINDS)}; they take turns")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = arguments.kinds or list(KINDS)
    nodes, draw = Nodes(), random.Random(arguments.seed)
    rounds, same, left = Counter[str](), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Round(Path(folder) / "expected", draw, frozenset(), nodes)
        undisturbed.start("").wait()
        expected = contents(undisturbed.out)
        print(f"seed {arguments.seed}: {len(expected)} files of an undisturbed run", flush=True)
        try:
            for number in range(arguments.rounds):
                kind, begin = kinds[number % len(kinds)], time.perf_counter()
                this = Round(Path(folder) / str(number), draw, frozenset(expected), nodes)
                what = KINDS[kind](this)
                found, remaining = contents(this.out), this.left()
                differing = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
                rounds[kind] += 1
                same[kind] += not differing
                left += len(remaining)
                print(
                    f"{number + 1:3}  {what}, after {len(this.seen)} files: "
                    f"{'the same bytes' if not differing else 'DIFFERENT: ' + ', '.join(differing[:5])}, "
                    f"{len(remaining)} processes left, {time.perf_counter() - begin:.0f} s",
                    flush=True,
                )
                shutil.rmtree(this.out)
        finally:
            nodes.close()
    for kind, count in rounds.items():
        print(f"{kind}: the same bytes in {same[kind]} of {count} rounds")
    print(f"together: the same bytes in {same.total()} of {rounds.total()} rounds, {left} processes left")
    sys.exit(same != rounds or left > 0)


def contents(folder: Path) -> dict[str, bytes]:
    """All files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commands(word: str) -> Iterator[psutil.Process]:
    """Descendants of this process whose command has a word in it."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(word in part for part in process.cmdline()):
                yield process


def session(process: psutil.Process) -> int | None:
    """The session that a process is of; None if it has ended."""
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


if __name__ == "__main__":
    main()
