"""What of a student is compared with the teacher: its pooled feature and a late map of its patches."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

# CoaT's parallel blocks end with maps of several scales; this one has the teacher's grid. A ConvNet's last map has two
# rows at 64 pixels, which is hardly a map; the last but one has four.
_MAP = {"CoaT": 1, "ConvNeXt": -2, "ResNet": -2}


def features(student: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pass normalized images through a timm model.

    Parameters
    ----------
    student
        Any timm model with ``forward_intermediates``, of whichever family.
    images
        Shape ``(B, 3, H, W)``.

    Returns
    -------
    pooled
        What the classifier reads, ``(B, C)``.
    patches
        The last map, of ConvNets that of the last stage but one, ``(B, C', rows, columns)``.
    logits
        ``(B, classes)``.
    """
    last, maps = student.forward_intermediates(images, norm=True)  # type: ignore[operator]
    pooled = student.forward_head(last, pre_logits=True)  # type: ignore[operator]
    return pooled, maps[_MAP.get(type(student).__name__, -1)], student.forward_head(last)  # type: ignore[operator]


def on_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average the teacher's 8 x 8 patch tokens ``(B, 64, C)`` to a coarser grid: ``(B, rows * columns, C)``."""
    maps = tokens.transpose(1, 2).unflatten(2, (8, 8))
    return functional.adaptive_avg_pool2d(maps, grid).flatten(2).transpose(1, 2)
