"""Whoever makes an atlas, and whatever dies on the way, the files are the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import psutil
import pytest

import captum_vit
from captum_vit.atlas.engines.engine import HOPELESS, TRIES, Todo
from captum_vit.atlas.engines.here import ThisProcess
from captum_vit.atlas.engines.processes import Processes
from captum_vit.atlas.pieces import RenderPiece
from captum_vit.errors import ArgumentError, AtlasError, CaptumViTError, OutputError
from captum_vit.models import default_photos

NEURONS = ["blocks.1:0-3", "blocks.4.value:4-7"]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(folder, photos, engine=None, model="deit_micro"):
    return captum_vit.make_atlas(
        folder,
        model,
        [photos],
        neurons=NEURONS,
        engine=engine,
        device="cpu",
        progress=False,
        **{"steps": 2, "k": 3, "units_a_piece": 1, "images_a_piece": 3, "batch_size": 1},
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for photo in default_photos()[:8]:
        shutil.copy(photo, folder)
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory, photos):
    """The files of an atlas that this process made without disturbance."""
    return contents(make(tmp_path_factory.mktemp("atlases") / "atlas", photos).folder)


def kill_when(folder, pattern, find):
    """Kill processes as soon as a file of that pattern is there."""

    def watch():
        while not any(folder.glob(pattern)):
            time.sleep(0.01)
        for process in find():
            process.kill()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_two_processes_of_which_one_is_killed_make_the_same_files(tmp_path, photos, expected):
    folder = tmp_path / "atlas"
    watching = kill_when(folder, "renders/blocks.1/*.json", lambda: workers_of(os.getpid())[:1])
    make(folder, photos, Processes(2))
    watching.join(timeout=600)
    assert not watching.is_alive()
    assert contents(folder) == expected


def workers_of(pid):
    """The processes that an engine of processes started."""
    return [each for each in psutil.Process(pid).children() if any("spawn_main" in word for word in each.cmdline())]


def test_a_command_that_is_killed_leaves_no_worker_and_goes_on(tmp_path, photos, expected):
    folder, script = tmp_path / "atlas", tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from pathlib import Path\n"
        "import captum_vit\n"
        "from captum_vit.atlas import making\n"
        "from captum_vit.atlas.engines.processes import Processes\n"
        'if __name__ == "__main__":\n'
        # It waits to be killed half-way, however busy the machine is.
        f"    half_way = lambda: list(Path({str(folder)!r}).glob('renders/blocks.1/*.json'))\n"
        "    making._note = lambda *_: half_way() and time.sleep(3600)\n"
        f"    captum_vit.make_atlas({str(folder)!r}, 'deit_micro', [{str(photos)!r}], neurons={NEURONS!r},\n"
        "        engine=Processes(1), device='cpu', progress=False, steps=2, k=3, units_a_piece=1, images_a_piece=3,\n"
        "        batch_size=1)\n"
    )
    running = subprocess.Popen([sys.executable, script])
    while not list(folder.glob("renders/blocks.1/*.json")):
        assert running.poll() is None
        time.sleep(0.01)
    workers = workers_of(running.pid)
    running.send_signal(signal.SIGKILL)
    running.wait()
    gone, alive = psutil.wait_procs(workers, timeout=600)
    assert gone
    assert not alive
    before = contents(folder)
    assert before.keys() != expected.keys()
    make(folder, photos)
    assert contents(folder) == expected


# --- failures


def test_pieces_that_fail_three_times_are_recorded_and_the_rest_goes_on(tmp_path, photos, expected, monkeypatch):
    from captum_vit.atlas import work

    tries = []

    def render(worker, piece, advance, real=work.render):
        if piece.name == "renders/blocks.1/000002-000002":
            tries.append(piece)
            raise ValueError("nothing leads here")
        real(worker, piece, advance)

    with monkeypatch.context() as patched:
        patched.setattr(work, "render", render)
        made = make(tmp_path / "atlas", photos)
    assert len(tries) == TRIES
    assert made.failures == {"renders/blocks.1/000002-000002": "ValueError: nothing leads here"}
    assert made["blocks.1:2"].render is None
    assert made["blocks.1:3"].render is not None
    make(tmp_path / "atlas", photos)
    assert contents(tmp_path / "atlas") == expected


def test_what_cannot_be_written_ends_the_work_at_once_and_nothing_is_lost(tmp_path, photos, expected):
    folder = tmp_path / "atlas"
    for name, content in expected.items():
        if not name.startswith("renders/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    (folder / "renders").write_text("in the way")
    with pytest.raises(OutputError, match="renders"):
        make(folder, photos, Processes(1))
    (folder / "renders").unlink()
    shutil.rmtree(folder / "site")
    (folder / "site").write_text("in the way")
    with pytest.raises(OutputError, match="site"):
        make(folder, photos)
    (folder / "site").unlink()
    make(folder, photos)
    assert contents(folder) == expected


def test_where_nothing_can_be_done_that_is_said_soon(tmp_path, photos, monkeypatch):
    from captum_vit.atlas import work

    def rank(worker, piece, advance):
        raise MemoryError("no room")

    monkeypatch.setattr(work, "rank", rank)
    with pytest.raises(AtlasError, match=rf"the first {HOPELESS} pieces failed {TRIES} times each, by: MemoryError"):
        make(tmp_path / "atlas", photos)


def test_every_piece_is_settled_once_and_its_amount_is_told():
    pieces = [RenderPiece("blocks.1", ((unit, unit + 3),)) for unit in range(0, 12, 4)]
    todo, told = Todo(pieces), []
    first = todo.take()
    told.append(todo.done(first, first.amount))
    while piece := todo.take():
        told.append(todo.failed(piece, "no", 0) if piece == pieces[1] else todo.done(piece, piece.amount))
    assert todo.left == 0
    assert sorted(each.piece.name for each in told if each.settled) == sorted(piece.name for piece in pieces)
    assert sum(each.amount for each in told) == sum(piece.amount for piece in pieces)
    assert [each.error for each in told if each.error] == ["no"]


def factory():
    return captum_vit.load_model("deit_micro", sites=("feed_forward", "attention"))


def test_a_function_that_makes_the_model_is_as_good_as_its_name(tmp_path, photos, expected):
    made = make(tmp_path / "atlas", photos, ThisProcess(), model=factory)
    for name, content in contents(made.folder).items():
        if name.endswith(".webp"):
            assert content == expected[name]


# --- Ray


class Actor:
    """What Ray gives for an actor: here an object of this process, which works when its answer is wanted."""

    def __init__(self, instance):
        self.is_dead = False
        for name in ("begin", "do"):
            setattr(self, name, SimpleNamespace(remote=partial(Answer, self, getattr(instance, name))))


class Answer:
    def __init__(self, actor, method, *arguments):
        self.actor, self.method, self.arguments = actor, method, arguments


class RayHere:
    """Ray's functions that the engine uses, in this process; all actors die at once when a piece is asked for."""

    exceptions = SimpleNamespace(RayError=ConnectionError)

    def __init__(self, fatal):
        self.fatal, self.actors = fatal, []

    def is_initialized(self):
        return True

    def remote(self, **resources):
        return lambda kind: SimpleNamespace(remote=lambda job: self.start(kind(job)))

    def start(self, instance):
        self.actors.append(Actor(instance))
        return self.actors[-1]

    def wait(self, answers, timeout):
        first = min(answers, key=lambda answer: not answer.actor.is_dead)  # deaths are known sooner than work is done
        return [first], [answer for answer in answers if answer is not first]

    def get(self, answer):
        if self.fatal in [piece.name for piece in answer.arguments]:
            self.fatal = None
            for actor in self.actors:
                actor.is_dead = True
        if answer.actor.is_dead:
            raise self.exceptions.RayError("its node is gone")
        return answer.method(*answer.arguments)

    def kill(self, actor):
        actor.is_dead = True


@pytest.mark.parametrize(
    ("gpus", "actors"),
    [(0, 32), (1, 8), (2, 4), (3, 2), (0.5, 16), (0.4, 16), (0.6, 8), (0.2, 32), (16, 1)],  # 0.2: 40, but for CPUs
)
def test_a_cluster_of_eight_gpus_has_room_for_as_many_actors_as_fit_on_each_device(gpus, actors):
    from captum_vit.atlas.engines.ray import room

    assert room({"CPU": 32.0, "GPU": 8.0}, threads=1, gpus=gpus) == actors


@pytest.mark.parametrize("gpus", [-1, 1.5, 0.00001, float("inf"), float("nan")])
def test_a_number_of_gpus_that_no_actor_can_have_is_refused(monkeypatch, gpus):
    from captum_vit.atlas.engines.ray import Ray

    monkeypatch.setitem(sys.modules, "ray", RayHere(fatal=None))
    with pytest.raises(ArgumentError, match="give a whole number of GPUs of an actor, or a fraction of one"):
        Ray(gpus=gpus)


@pytest.mark.parametrize(
    ("address", "words"),
    [("nonsense", "is no address of a cluster"), ("here:port", "give HOST:PORT"), ("127.0.0.1:1", "cannot be reached")],
)
def test_an_address_without_a_cluster_is_told_at_once(monkeypatch, address, words):
    from captum_vit.atlas.engines.ray import Ray

    monkeypatch.setitem(sys.modules, "ray", RayHere(fatal=None))
    with pytest.raises(CaptumViTError, match=words):
        Ray(address)


def test_a_piece_is_not_given_up_where_a_node_takes_several_idle_actors_along(tmp_path, photos, expected, monkeypatch):
    from captum_vit.atlas.engines.ray import Ray

    ray = RayHere(fatal="renders/blocks.4.value/000007-000007")  # the last piece, while the other actors are idle
    monkeypatch.setitem(sys.modules, "ray", ray)
    made = make(tmp_path / "atlas", photos, Ray(workers=4))
    assert ray.fatal is None
    assert not made.failures
    assert contents(made.folder) == expected
    assert all(actor.is_dead for actor in ray.actors)


@pytest.fixture(scope="module")
def cluster():
    """Ray's own cluster of two nodes on this machine, of which the first has no room for actors."""
    ray = pytest.importorskip("ray")
    utils = pytest.importorskip("ray.cluster_utils")
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_is_removed_changes_nothing(tmp_path, photos, expected, cluster):
    from captum_vit.atlas.engines.ray import Ray

    folder = tmp_path / "atlas"
    node = cluster.add_node(num_cpus=1)

    making = threading.Thread(target=make, args=(folder, photos, Ray("auto", workers=1)))
    making.start()
    while making.is_alive() and not any(folder.glob("renders/blocks.1/*.json")):
        time.sleep(0.01)
    # In the main thread, as nodes set handlers of signals.
    cluster.add_node(num_cpus=1)
    cluster.remove_node(node, allow_graceful=False)
    making.join()
    assert contents(folder) == expected
