"""The engine of Ray's actors, on this machine or on a cluster, each with the model in its memory."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from captum_vit.atlas.engines.engine import TRIES, Crew, Tell, Todo, reason
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.pieces import Piece
from captum_vit.atlas.work import do
from captum_vit.atlas.worker import Job, Worker
from captum_vit.checks import briefly, whole_number
from captum_vit.errors import ArgumentError, AtlasError, CaptumViTError, MissingLibraryError, OutputError
from captum_vit.probes.adapted import AdaptedModel

# Seconds that a crew waits for its first actor, or for another when all are gone, before it says that none comes.
PATIENCE = 600.0

# Seconds that a cluster has to answer; Ray itself tries for minutes, and prints each try.
_ANSWER = 10.0

AUTO = "auto"


class Ray:
    """The engine of Ray's actors.

    All machines need the atlas' folder and the images under the same paths, and the same captum-vit. An actor that dies
    is replaced wherever there is room, and its piece is done by another.

    Parameters
    ----------
    address
        ``"auto"``: Ray is used where it runs already in this process, and else started on this machine. Or the address
        of a cluster that ``ray start --head`` began.
    workers
        Number of actors; as many as the cluster has room for when not given.
    gpus
        GPUs of an actor, or a fraction of one; one where the atlas is made on GPUs, when not given.

    Raises
    ------
    MissingLibraryError
        Ray is not installed.
    ArgumentError
        The address, or the number of workers or of GPUs, means nothing.
    CaptumViTError
        Nothing answers at the address.
    """

    def __init__(self, address: str = AUTO, workers: int | None = None, gpus: float | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingLibraryError(
                'this engine needs Ray, which is not installed; pip install "captum-vit[ray]"'
            ) from error
        # Ray knows fractions in ten thousandths, and of one device only.
        if gpus is not None and not (0.0001 <= gpus < 1 or (gpus >= 0 and float(gpus).is_integer())):
            raise ArgumentError(f"gpus is {gpus}; give a whole number of GPUs of an actor, or a fraction of one")
        if address != AUTO:
            _check_answers(address)
        self.ray = ray
        self.address = address
        self.workers = None if workers is None else whole_number("workers", workers)
        self.gpus = gpus

    @contextmanager
    def crew(self, job: Job, vit: AdaptedModel) -> Iterator[Crew]:
        """See :class:`captum_vit.atlas.engines.engine.Engine`."""
        started = not self.ray.is_initialized()
        if started:
            # On this machine unless an address is given, even where the environment names a cluster.
            address = "local" if self.address == AUTO else self.address
            try:
                self.ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=True)
            except Exception as error:  # of many kinds, and plain ones where a node does not start in time
                what = "started on this machine" if self.address == AUTO else f"reached at {self.address}"
                raise CaptumViTError(f"Ray cannot be {what}: {briefly(error)}") from error
        gpus = (1.0 if job.device != "cpu" else 0.0) if self.gpus is None else self.gpus
        # Ray shows an actor the GPUs that are its own, under the number 0.
        job = replace(job, device="cuda" if gpus else "cpu")
        crew = _Crew(self.ray, job, gpus, self.workers)
        try:
            yield crew
        finally:
            crew.close()
            if started:
                self.ray.shutdown()


class _Actor:
    """What runs on a node: a worker that is built at the first call, so that a failure to build it can be told."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: Worker | None = None

    def begin(self) -> tuple[str, Any]:
        """Build the worker, unless it is there. Gives ``"done"``, ``"failed"`` and why, or ``"stop"`` and the error."""
        warnings.simplefilter("ignore")  # the driver has said it
        try:
            self._worker = self._worker or Worker(self._job)
        except CaptumViTError as error:
            return "stop", error
        return "done", None

    def do(self, piece: Piece) -> tuple[str, Any]:
        """Do a piece; gives what :meth:`begin` does."""
        assert self._worker is not None
        try:
            do(self._worker, piece, lambda amount: None)
        except (AtlasError, OutputError) as error:
            return "stop", error
        except Exception as error:  # whatever a model or a library raises
            return "failed", reason(error)
        return "done", None


class _Crew:
    def __init__(self, ray: Any, job: Job, gpus: float, workers: int | None) -> None:
        self._ray = ray
        self._job = job
        threads = _threads(job)
        self._remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(_Actor)
        self._workers = room(ray.cluster_resources(), threads, gpus) if workers is None else workers
        # Each actor that has been asked for something, by the answer that is waited for, with the piece that it does;
        # None while it builds its model, or is asked whether it has.
        self._asked: dict[Any, tuple[Any, Piece | None]] = {}
        self._idle: list[Any] = []
        self._stillborn = 0

    def do(self, pieces: Iterable[Piece], tell: Tell) -> None:
        """See :class:`captum_vit.atlas.engines.engine.Crew`."""
        todo = Todo(pieces)
        for _ in range(min(self._workers, todo.left) - len(self._idle) - len(self._asked)):
            self._hire()
        heard_at = time.monotonic()
        while todo.left:
            while self._idle and (piece := todo.take()):
                actor = self._idle.pop()
                self._asked[actor.do.remote(piece)] = actor, piece
            answers, _ = self._ray.wait(list(self._asked), timeout=1.0)
            for answer in answers:
                self._hear(answer, todo, tell)
            if answers or any(piece for _, piece in self._asked.values()):
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > PATIENCE:
                raise AtlasError(
                    f"the cluster had no room for an actor for {PATIENCE:.0f} seconds; add nodes, or ask for fewer "
                    "GPUs for each with --gpus"
                )

    def _hire(self) -> None:
        actor = self._remote.remote(self._job)
        self._asked[actor.begin.remote()] = actor, None

    def _hear(self, answer: Any, todo: Todo, tell: Tell) -> None:
        """Take note of what an actor answers, or of its death."""
        actor, piece = self._asked.pop(answer)
        try:
            what, content = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            if piece is not None:
                tell(todo.failed(piece, f"the actor died: {reason(error)}", 0))
            else:
                self._stillborn += 1
                if self._stillborn == TRIES * self._workers:
                    raise AtlasError(f"actors die before they begin to work: {reason(error)}") from error
            self._hire()
            self._call_roll()
            return
        if what == "stop":
            raise content
        self._stillborn = 0
        self._idle.append(actor)
        if piece is not None:
            tell(todo.done(piece, piece.amount) if what == "done" else todo.failed(piece, content, 0))

    def _call_roll(self) -> None:
        """Ask idle actors whether they live: a node that dies takes all of its own along, on whom tries were lost."""
        for actor in self._idle:
            self._asked[actor.begin.remote()] = actor, None
        self._idle.clear()

    def close(self) -> None:
        """End the actors."""
        for actor in (*self._idle, *(actor for actor, _ in self._asked.values())):
            self._ray.kill(actor)


def _check_answers(address: str) -> None:
    """Make sure that something answers at an address, which may begin with a scheme."""
    place = urlsplit(f"//{address.rpartition('://')[2]}")
    try:
        host, port = place.hostname, place.port
    except ValueError:  # the port is no number
        host, port = None, None
    if not host or not port:
        raise ArgumentError(f'"{address}" is no address of a cluster; give HOST:PORT, as in 10.0.0.1:6379, or auto')
    try:
        socket.create_connection((host, port), timeout=_ANSWER).close()
    except OSError as error:
        raise CaptumViTError(
            f"Ray cannot be reached at {address} ({error.strerror or error}); begin a cluster with ray start --head, "
            "which prints its address"
        ) from error


def _threads(job: Job) -> int:
    return Manifest.load(job.folder).work.threads


def room(resources: Mapping[str, float], threads: int, gpus: float) -> int:
    """How many actors a cluster has room for; at least one, which waits until there is.

    Parameters
    ----------
    resources
        Processors and GPUs of all nodes, as ``"CPU"`` and ``"GPU"``.
    threads, gpus
        What an actor takes; of GPUs a whole number, or a fraction of one device.
    """
    actors = int(resources.get("CPU", 0)) // threads
    if gpus:
        devices = int(resources.get("GPU", 0))
        actors = min(actors, devices // int(gpus) if gpus >= 1 else devices * int(1 / gpus))
    return max(1, actors)
