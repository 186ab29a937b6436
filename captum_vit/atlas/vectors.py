"""Files of embeddings: one vector an image, in half precision, by which renders are compared with photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from captum_vit.errors import AtlasError
from captum_vit.storage.files import replacing


def write_vectors(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays by name.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_vectors(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; None if there is none, as of models that give no embedding.

    Raises
    ------
    AtlasError
        The file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise AtlasError(
            f"{path} is damaged ({error}); delete it and the files beside it, and make them again"
        ) from error
