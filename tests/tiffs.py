"""TIFF files of any kind of values and bands, as cameras, satellites and microscopes write them and Pillow does not."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

FORMATS = {"u": 1, "i": 2, "f": 3}
GREY, RGB, LAB = 1, 2, 8


def write_tiff(path: Path, values: np.ndarray, photometric: int = GREY, extra: list[int] | None = None) -> Path:
    """Values ``(height, width)`` or ``(height, width, bands)``, uncompressed, in their own number format."""
    height, width, bands = np.atleast_3d(values).shape
    order = ">" if values.dtype.byteorder == ">" else "<"
    data = values.tobytes()
    tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [values.itemsize * 8] * bands),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [0]),
        277: ("H", [bands]),
        278: ("I", [height]),
        279: ("I", [len(data)]),
        339: ("H", [FORMATS[values.dtype.kind]] * bands),
    } | ({338: ("H", extra)} if extra is not None else {})
    packed = {tag: struct.pack(order + kind * len(of), *of) for tag, (kind, of) in tags.items()}
    start = 14 + 12 * len(tags)
    elsewhere = b"".join(each for _, each in sorted(packed.items()) if len(each) > 4)
    packed[273] = struct.pack(order + "I", start + len(elsewhere))
    entries = b""
    for tag, (kind, of) in sorted(tags.items()):
        each = packed[tag]
        entries += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(of))
        entries += each.ljust(4, b"\0") if len(each) <= 4 else struct.pack(order + "I", start)
        start += len(each) if len(each) > 4 else 0
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "IH", 8, len(tags))
    path.write_bytes(head + entries + bytes(4) + elsewhere + data)
    return path
