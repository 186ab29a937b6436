"""Marks in files that tell what is in them, so that nothing is written over something else, and names for files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

_MARK = re.compile(rb"captum-vit:[0-9a-f]{64}")
_HEAD = 2**16  # bytes of a file in which its mark is
_LONGEST = 120  # bytes of a name: file systems take 255, with what is put before and after it

SUFFIX = 8  # digits of a checksum in the name of a file


def checksum(content: Any) -> str:
    """SHA-256 of what JSON holds, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def mark_of(content: Any) -> str:
    """The mark of what JSON holds: equal for equal content, and for nothing else."""
    return f"captum-vit:{checksum(content)}"


def mark_in(path: Path) -> str | None:
    """The mark in a file's text or metadata; None if it has none, or cannot be read."""
    try:
        with path.open("rb") as file:
            found = _MARK.search(file.read(_HEAD))
    except OSError:
        return None
    return found[0].decode() if found else None


def place(folder: Path, name: str, suffixes: Sequence[str], mark: str, otherwise: str) -> Path:
    """Where to put files of one name: where nothing is, or where the same was put before.

    Parameters
    ----------
    folder
        Their folder.
    name
        Their name, without a suffix.
    suffixes
        Theirs, with the dot.
    mark
        What tells them from others; at least one of them carries it.
    otherwise
        What is added to the name where something else has it.

    Returns
    -------
    Path
        That of the first suffix.
    """
    numbered = (f"{name}-{otherwise}-{number}" for number in count(2))
    for candidate in chain((name, f"{name}-{otherwise}"), numbered):
        files = [folder / f"{candidate}{suffix}" for suffix in suffixes]
        marks = {mark_in(file) for file in files if os.path.lexists(file)}
        if not marks or mark in marks <= {mark, None}:
            return files[0]
    raise AssertionError("there are always more numbers")


def file_name(words: str) -> str:
    """Words as the name of a file: what no file system takes is replaced, and what is too long is cut.

    Different words may have one name; :func:`place` tells them apart, or :func:`distinct`.
    """
    return cut(re.sub(r"[^\w.+-]+", "-", words).strip("-.") or "unnamed")


def cut(name: str) -> str:
    """A name without its end if it is too long for one."""
    return name if len(name.encode()) <= _LONGEST else name.encode()[:_LONGEST].decode(errors="ignore").rstrip("-. ")


def distinct(names: Sequence[str]) -> Iterator[str]:
    """Names, numbered where several are the same, also to file systems that ignore case."""
    taken = set()
    for name in names:
        candidates = chain((name,), (f"{name}-{number}" for number in count(2)))
        free = next(each for each in candidates if each.casefold() not in taken)
        taken.add(free.casefold())
        yield free
