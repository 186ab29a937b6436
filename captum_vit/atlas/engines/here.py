"""The engine that does the pieces in this process, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from captum_vit.atlas.engines.engine import Crew, Tell, Todo, Told, reason
from captum_vit.atlas.pieces import Piece
from captum_vit.atlas.work import do
from captum_vit.atlas.worker import Job, Worker
from captum_vit.errors import AtlasError, OutputError
from captum_vit.probes.adapted import AdaptedModel


class ThisProcess:
    """The engine that needs nothing but this process."""

    workers = 1

    @contextmanager
    def crew(self, job: Job, vit: AdaptedModel) -> Iterator[Crew]:
        """See :class:`captum_vit.atlas.engines.engine.Engine`."""
        yield _Crew(Worker(job, vit))


class _Crew:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def do(self, pieces: Iterable[Piece], tell: Tell) -> None:
        todo = Todo(pieces)
        while piece := todo.take():
            told = Told(piece, tell)
            try:
                do(self._worker, piece, told)
            except (AtlasError, OutputError):
                raise
            except Exception as error:  # whatever a model or a library raises
                tell(todo.failed(piece, reason(error), told.amount))
            else:
                tell(todo.done(piece, piece.amount - told.amount))
