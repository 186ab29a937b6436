"""Files of arrays with a JSON header, in the safetensors format: the same bytes for the same content, or an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from captum_vit.errors import RankingFileError
from captum_vit.storage.files import replacing

SUFFIXES = frozenset({".safetensors"})
FORMAT = "captum-vit top images 1"


def write(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a file; what was there is replaced only when the new one is whole and on the disk.

    Parameters
    ----------
    path
        The file.
    header
        What JSON can say.
    arrays
        By name.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    # One entry: safetensors writes several in any order.
    metadata = {"captum_vit": json.dumps({"format": FORMAT, **header}, sort_keys=True)}
    with replacing(path) as partial:
        partial.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata))


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read header and arrays of a file.

    Raises
    ------
    RankingFileError
        The file is missing, damaged, or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["captum_vit"])
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        found = header["format"]
    except OSError as error:
        raise RankingFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error
    if found != FORMAT:
        raise RankingFileError(f'{path} has the format "{found}", and this release reads "{FORMAT}"; make it anew')
    return header, arrays


def damaged(path: Path) -> RankingFileError:
    """The error for a file whose content makes no sense."""
    return RankingFileError(f"{path} is damaged or not a file of top images; make it anew")


def pack(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts as an array: a header may not be as long as the names of all files of a large dataset."""
    # JSON escapes what is not ASCII, such as names of files that are not valid Unicode.
    return np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)


def unpack(packed: NDArray[np.uint8]) -> list[str]:
    """The inverse of :func:`pack`.

    Raises
    ------
    ValueError
        The array is not packed texts.
    """
    texts: list[str] = json.loads(packed.tobytes())
    return texts
