"""The engine of several processes on this machine, each with the model in its memory."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from captum_vit.atlas.engines.engine import TRIES, Crew, Tell, Todo, Told, reason
from captum_vit.atlas.pieces import Piece
from captum_vit.atlas.work import do
from captum_vit.atlas.worker import Job, Worker
from captum_vit.checks import whole_number
from captum_vit.errors import AtlasError, CaptumViTError, OutputError
from captum_vit.probes.adapted import AdaptedModel

# What a process says, with what: how much more is done, that the piece is, why it is not, or why no piece can be.
_READY, _ADVANCE, _DONE, _FAILED, _STOP = "ready", "advance", "done", "failed", "stop"


class Processes:
    """The engine of several processes on this machine.

    Scripts that use it do their work under ``if __name__ == "__main__":``, as the processes import the script anew.

    Parameters
    ----------
    workers
        How many. On a machine with several CUDA devices they take turns at them.

    Raises
    ------
    ArgumentError
        It is no number of processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = whole_number("workers", workers)

    @contextmanager
    def crew(self, job: Job, vit: AdaptedModel) -> Iterator[Crew]:
        """See :class:`captum_vit.atlas.engines.engine.Engine`."""
        devices = [job.device]
        if job.device == "cuda":
            devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        crew = _Crew([replace(job, device=devices[number % len(devices)]) for number in range(self.workers)])
        try:
            yield crew
        finally:
            crew.close()


class _Crew:
    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._hands: list[_Hand] = []
        self._stillborn = 0

    def do(self, pieces: Iterable[Piece], tell: Tell) -> None:
        """See :class:`captum_vit.atlas.engines.engine.Crew`."""
        todo = Todo(pieces)
        for job in self._jobs[len(self._hands) : min(len(self._jobs), todo.left)]:
            self._hands.append(_Hand(job))
        while todo.left:
            for hand in self._hands:
                if hand.is_ready and hand.piece is None and (piece := todo.take()):
                    hand.give(piece, tell)
            heard = wait([hand.words for hand in self._hands])
            for place, hand in enumerate(self._hands):
                if hand.words in heard:
                    said = hand.hear()
                    if said is None:
                        self._replace(place, todo, tell)
                    else:
                        hand.note(*said, todo, tell)

    def _replace(self, place: int, todo: Todo, tell: Tell) -> None:
        """Put another process in the place of one that died, and have its piece done again."""
        dead = self._hands[place]
        how = dead.ended()
        if dead.piece is not None:
            tell(todo.failed(dead.piece, f"the worker's process {how}", dead.told))
        elif not dead.is_ready:
            self._stillborn += 1
            if self._stillborn == TRIES * len(self._jobs):
                raise AtlasError(f"processes end before they begin to work: the last one {how}; try fewer --workers")
        self._hands[place] = _Hand(dead.job)

    def close(self) -> None:
        """End the processes."""
        for hand in self._hands:
            hand.process.terminate()
        for hand in self._hands:
            hand.process.join(timeout=5)
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()
            hand.words.close()


class _Hand:
    """One process, and the piece that it is doing."""

    def __init__(self, job: Job) -> None:
        context = get_context("spawn")
        self.job = job
        self.words, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.is_ready = False
        self.piece: Piece | None = None
        self._told: Told | None = None

    @property
    def told(self) -> int:
        """How much of its piece was told to be done."""
        return 0 if self._told is None else self._told.amount

    def give(self, piece: Piece, tell: Tell) -> None:
        """Give it a piece."""
        self.piece, self._told = piece, Told(piece, tell)
        with suppress(OSError):  # it is dead, and will be heard to be
            self.words.send(piece)

    def hear(self) -> tuple[str, Any] | None:
        """What it says; None if it is dead."""
        try:
            what, content = self.words.recv()
        except (EOFError, OSError):
            return None
        return what, content

    def note(self, what: str, content: Any, todo: Todo, tell: Tell) -> None:
        """Take note of what it said.

        Raises
        ------
        CaptumViTError
            It said that no piece can be done.
        """
        if what == _STOP:
            raise content
        if what == _READY:
            self.is_ready = True
        elif self.piece is not None and self._told is not None:
            if what == _ADVANCE:
                self._told(content)
                return
            piece, told = self.piece, self.told
            self.piece = None
            tell(todo.done(piece, piece.amount - told) if what == _DONE else todo.failed(piece, content, told))

    def ended(self) -> str:
        """How a dead process ended, in words."""
        self.process.join(timeout=5)
        code = self.process.exitcode
        self.words.close()
        return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"


def _work(job: Job, words: Connection) -> None:
    """What a process does until nobody has work for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives the work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # the first process has said it

    def say(what: str, content: Any = None) -> None:
        words.send((what, content))

    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            worker = Worker(job)
        except CaptumViTError as error:
            say(_STOP, error)
            return
        say(_READY)
        while True:
            piece = words.recv()
            try:
                do(worker, piece, lambda amount: say(_ADVANCE, amount))
            except (AtlasError, OutputError) as error:
                say(_STOP, error)
            except Exception as error:  # whatever a model or a library raises
                say(_FAILED, reason(error))
            else:
                say(_DONE)


def _end_with_parent() -> None:
    """Do not work on for a process that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
