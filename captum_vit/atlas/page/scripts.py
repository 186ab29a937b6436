"""Data as scripts, which a page can read from a disk too: one call of ``receive`` with a value that JSON holds."""

from __future__ import annotations

import json
import math
import zlib
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SMALLEST = (np.uint8, np.uint16, np.uint32)


def as_script(value: Any) -> str:
    """The text of a script that hands over a value, and can neither end a script element nor start a comment."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    safe = text.replace("<", "\\u003c")
    return f"receive({safe});\n"


def packed(value: Any) -> dict[str, str]:
    """A value that JSON holds, compressed; the page unpacks it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return {"deflate": b64encode(zlib.compress(text.encode(), 9)).decode()}


def base64(array: NDArray[Any]) -> str:
    """An array's bytes, little-endian, in row-major order."""
    return b64encode(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()).decode()


def column(values: NDArray[Any]) -> dict[str, str]:
    """A column as a typed array: floats in single precision, whole numbers of zero and more in as few bytes as do."""
    if values.dtype.kind == "f":
        return {"type": "Float32Array", "base64": base64(values.astype(np.float32))}
    largest = int(values.max(initial=0))
    kind = next(kind for kind in _SMALLEST if largest <= np.iinfo(kind).max)
    return {"type": f"Uint{8 * kind().itemsize}Array", "base64": base64(values.astype(kind))}


def number(value: float | None) -> float | None:
    """A measured value in five digits; None where it is none."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")
