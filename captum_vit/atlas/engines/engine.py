"""What an engine is, and what all of them share: which pieces are left, which were tried, and when to give up."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from captum_vit.atlas.pieces import Piece
from captum_vit.atlas.worker import Job
from captum_vit.checks import briefly
from captum_vit.errors import AtlasError
from captum_vit.probes.adapted import AdaptedModel

# Times that a piece is tried, and pieces that fail before anything has succeeded.
TRIES, HOPELESS = 3, 3


@dataclass(frozen=True)
class Progress:
    """Word from a worker.

    Attributes
    ----------
    piece
        Which piece it is about.
    amount
        How much more of it is done.
    settled
        Whether nobody will work on it any more.
    error
        Why it failed, where it did so each time.
    """

    piece: Piece
    amount: int = 0
    settled: bool = False
    error: str | None = None


Tell: TypeAlias = Callable[[Progress], None]


class Crew(Protocol):
    """Workers, each with the model in memory."""

    def do(self, pieces: Iterable[Piece], tell: Tell) -> None:
        """Do pieces, in whatever order; ``tell`` hears how each comes on, and once that it is settled.

        Raises
        ------
        AtlasError, OutputError
            Something is wrong that no other try and no other piece would be spared.
        """
        ...


class Engine(Protocol):
    """Where workers are.

    Attributes
    ----------
    workers
        How many; None where that is only known when they are there.
    """

    @property
    def workers(self) -> int | None: ...  # noqa: D102

    def crew(self, job: Job, vit: AdaptedModel) -> AbstractContextManager[Crew]:
        """Context with workers for a job; ``vit`` is the model, as it is in this process on the CPU."""
        ...


class Told:
    """Tells how a piece comes on, and remembers how much of it was told; a worker's ``advance``."""

    def __init__(self, piece: Piece, tell: Tell) -> None:
        self._piece, self._tell = piece, tell
        self.amount = 0

    def __call__(self, amount: int) -> None:
        """Tell that so much more is done."""
        self.amount += amount
        self._tell(Progress(self._piece, amount))


def reason(error: BaseException) -> str:
    """Why a piece failed, on one line, with the kind of error."""
    return f"{type(error).__name__}: {briefly(error) if isinstance(error, Exception) else error}"


class Todo:
    """Pieces that are to be done, and how often each was tried."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._waiting = deque(pieces)
        self._tries: Counter[Piece] = Counter()
        self._done, self._failed = 0, 0
        self.left = len(self._waiting)

    def take(self) -> Piece | None:
        """A piece to try; None if all are being tried or settled."""
        return self._waiting.popleft() if self._waiting else None

    def done(self, piece: Piece, amount: int) -> Progress:
        """Note that a piece is done, of which so much was not told before."""
        self.left -= 1
        self._done += 1
        return Progress(piece, amount, settled=True)

    def failed(self, piece: Piece, error: str, told: int) -> Progress:
        """Note that a try failed, of which so much had been told to be done.

        Raises
        ------
        AtlasError
            Several pieces failed, and none was done.
        """
        self._tries[piece] += 1
        if self._tries[piece] < TRIES:
            self._waiting.append(piece)
            return Progress(piece, -told)
        self.left -= 1
        self._failed += 1
        if self._failed == HOPELESS and not self._done:
            raise AtlasError(f"nothing can be done: the first {HOPELESS} pieces failed {TRIES} times each, by: {error}")
        return Progress(piece, piece.amount - told, settled=True, error=error)
