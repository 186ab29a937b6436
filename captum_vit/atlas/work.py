"""Doing a piece of an atlas, of whichever kind."""

from __future__ import annotations

from captum_vit.atlas.naming.phase import name
from captum_vit.atlas.photos import show
from captum_vit.atlas.pieces import NamePiece, PhotoPiece, Piece, RankingPiece
from captum_vit.atlas.ranking import rank
from captum_vit.atlas.rendering import render
from captum_vit.atlas.worker import Advance, Worker, computing_with


def do(worker: Worker, piece: Piece, advance: Advance) -> None:
    """Do a piece, and write its files under their names.

    Parameters
    ----------
    worker
        What to do it with.
    piece
        Which.
    advance
        Called now and then with how much more of the piece's amount is done.

    Raises
    ------
    AtlasError
        A photo is not there any more, or another.
    OutputError
        A file cannot be written.
    """
    with computing_with(worker.manifest.work.threads):
        if isinstance(piece, RankingPiece):
            rank(worker, piece, advance)
        elif isinstance(piece, PhotoPiece):
            show(worker, piece, advance)
        elif isinstance(piece, NamePiece):
            name(worker, piece, advance)
        else:
            render(worker, piece, advance)
