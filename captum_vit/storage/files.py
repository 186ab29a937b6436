"""Result files: checked before the long work starts, and written whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from captum_vit.errors import OutputError

# Suffixes of what is written, by kind, to be told before anything that writes them is imported. Matplotlib knows more
# pictures, but they are raw pixels or need LaTeX.
PICTURES = (".jpeg", ".jpg", ".pdf", ".png", ".svg", ".webp")
PAGES = (".html",)
RANKINGS = (".safetensors",)


def check_output(path: Path, suffixes: Collection[str]) -> None:
    """Make sure that a file can be written at ``path``, which is left as it is.

    Parameters
    ----------
    path
        The file to write later.
    suffixes
        Those that can be written, with the dot.

    Raises
    ------
    OutputError
        The path is a folder or a device, its folder is missing or not writable, or the suffix is another.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it, such as {path / 'card.png'}")
    if path.suffix.lower() not in suffixes:
        kind = f'in the format "{path.suffix}"' if path.suffix else "without a suffix that names the format"
        raise OutputError(f"{path} cannot be written {kind}; use {', '.join(sorted(suffixes))}")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is not a regular file; give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror} in {path.parent}") from error


def check_folder(folder: Path) -> None:
    """Make a folder to write into, and make sure that it can be written.

    Raises
    ------
    OutputError
        It cannot be made or written, or something else is there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder} cannot be used as a folder to write to: {error.strerror}") from error


def shown(words: str | os.PathLike[str]) -> str:
    r"""A path, or a message that names one, as it can be printed, drawn and put into a page.

    Bytes that are no UTF-8, and characters that move a cursor or end a line, are written as numbers: ``caf\xe9.png``.
    """
    return _NOT_SHOWN.sub(lambda match: _number(match[0]), os.fspath(words))


# Control characters, ends of lines, changes of direction, and halves of characters, which Python has for bytes too.
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _number(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that could not be decoded
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context that gives a temporary file to write in the folder of ``path``, and renames it when all went well.

    Whoever writes the same file at the same time, here or on another machine that shares the folder, has another
    temporary one.

    Raises
    ------
    OutputError
        The file cannot be written; what was at ``path`` is still there.
    """
    target = path.resolve()  # a link goes on pointing at the file, which is what gets replaced
    partial = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())  # a power cut after the renaming must not leave an empty file
        partial.replace(target)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # it is not there any more, or the disk cannot be written, which was told
            partial.unlink()
