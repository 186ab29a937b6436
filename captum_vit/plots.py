"""Drawing: patch maps over images, and figures as files."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_vit.output import replacing

# Even in lightness and safe for colour-blind readers.
COLORMAP = "viridis"

# Suffixes of the files that figures can be saved to. Matplotlib knows more, but they are raw pixels or need LaTeX.
FORMATS = (".jpeg", ".jpg", ".pdf", ".png", ".svg", ".webp")


def save_figure(figure: Figure, path: str | Path, dpi: int = 200) -> None:
    """Save a figure whole or not at all, in the format that the suffix names."""
    with replacing(Path(path)) as partial:
        figure.savefig(partial, dpi=dpi)


def laid_over(pixels: NDArray[np.float32], heat: NDArray[np.float32], opacity: float = 0.6) -> NDArray[np.float32]:
    """Heat in [0, 1], ``(H, W)``, as colours over a grey version of an image ``(H, W, 3)``."""
    grey = (pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    colours = matplotlib.colormaps[COLORMAP](heat)[..., :3]
    return np.asarray((1 - opacity) * grey + opacity * colours, dtype=np.float32)
