"""Drawing: maps over images, side by side and with their scale, and figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from captum_vit.checks import shortly
from captum_vit.errors import PlotError
from captum_vit.storage.files import PICTURES, replacing, shown

# Even in lightness and safe for colour-blind readers.
COLORMAP = "viridis"

# Blue below zero, red above: of the diverging colour maps one that colour-blind readers can tell apart.
SIGNED_COLORMAP = "RdBu_r"

# Suffixes of the files that figures can be saved to.
FORMATS = PICTURES


def save_figure(figure: Figure, path: str | Path, dpi: int = 200, *, mark: str | None = None) -> None:
    """Save a figure whole or not at all, in the format that the suffix names.

    Parameters
    ----------
    figure
        Matplotlib's.
    path
        File to write.
    dpi
        Pixels in an inch.
    mark
        Words for programs, that tell the figure from others; in PNG files only.
    """
    path = Path(path)
    # Matplotlib 3.7 takes no metadata, nor none, for JPEG and WebP.
    marked: dict[str, Any] = {"metadata": {"Comment": mark}} if mark and path.suffix.lower() == ".png" else {}
    with replacing(path) as partial:
        figure.savefig(partial, dpi=dpi, **marked)


def laid_over(pixels: NDArray[np.float32], heat: NDArray[np.float32], opacity: float = 0.6) -> NDArray[np.float32]:
    """Heat in [0, 1], ``(H, W)``, as colours over a grey version of an image ``(H, W, 3)``."""
    return _over_grey(pixels, matplotlib.colormaps[COLORMAP](heat)[..., :3], opacity)


def color_scale(*maps: ArrayLike, outliers: float = 0.0) -> ScalarMappable:
    """Scale on which maps can be compared, and their colours.

    Maps without a negative value go from zero to their largest value, in a sequential colour map. Others are centred
    on zero, which is white, in a diverging one. Both are safe for colour-blind readers.

    Parameters
    ----------
    *maps
        Arrays or tensors: patch maps, heat or attributions, as :func:`overlay` and :func:`heat_map` take them.
    outliers
        Percentage of the values, the largest in magnitude, that may lie beyond the ends of the scale. Without it a
        few pixels can leave the rest of an attribution pale; the scale bar ends in arrows where it is used.

    Raises
    ------
    PlotError
        There is no map, a map has a value that is not finite, or ``outliers`` is not a percentage.
    """
    if not 0 <= outliers < 100:
        raise PlotError(f"outliers are a percentage from 0 to less than 100, not {outliers}")
    if not maps:
        raise PlotError("no map to scale; give at least one")
    values = np.concatenate([_map(each).ravel() for each in maps])
    signed = bool(values.min() < 0)
    end = float(np.percentile(np.abs(values), 100 - outliers)) or float(np.abs(values).max()) or 1.0
    colormap = matplotlib.colormaps[SIGNED_COLORMAP if signed else COLORMAP].copy()
    if np.abs(values).max() > end:
        colormap.colorbar_extend = "both" if signed else "max"  # type: ignore[assignment]  # the stub says bool
    return ScalarMappable(Normalize(-end if signed else 0, end), colormap)


def heat_map(
    values: ArrayLike, ax: Axes | None = None, *, label: str = "activation", scale: ScalarMappable | None = None
) -> Axes:
    """Draw a map by itself, cell by cell, with a scale bar.

    Parameters
    ----------
    values
        Patch map ``(rows, columns)``, heat ``(H, W)``, or an attribution ``(H, W, 3)`` or ``(3, H, W)``, whose
        channels are summed as Captum's ``visualize_image_attr`` does. Array or tensor, on any device.
    ax
        Axes to draw on; those of a new figure when not given.
    label
        What is measured, for the scale bar.
    scale
        From :func:`color_scale`, to compare several maps; the map's own when not given.

    Raises
    ------
    PlotError
        ``values`` is not a map, or a value is not finite.
    """
    heat = _map(values)
    return _draw(scale or color_scale(heat), heat, "nearest", ax, label)


def overlay(
    image: ArrayLike,
    heat: ArrayLike,
    ax: Axes | None = None,
    *,
    label: str = "activation",
    scale: ScalarMappable | None = None,
    opacity: float = 0.6,
) -> Axes:
    """Draw a map in colours over a grey version of the image, with a scale bar.

    Parameters
    ----------
    image
        Pixels in [0, 1], ``(H, W, 3)`` or ``(3, H, W)``. Array or tensor, on any device.
    heat
        ``(H, W)``, such as a patch map resampled by ``site.to_image``, or an attribution ``(H, W, 3)`` or
        ``(3, H, W)``, whose channels are summed as Captum's ``visualize_image_attr`` does.
    ax
        Axes to draw on; those of a new figure when not given.
    label
        What is measured, for the scale bar.
    scale
        From :func:`color_scale`, to compare several maps; the map's own when not given.
    opacity
        Of the colours, from 0 to 1.

    Raises
    ------
    PlotError
        The image or the heat has another shape, they are not of the same size, pixels are not in [0, 1], or a value
        is not finite.
    """
    pixels, values = _pixels(image), _map(heat)
    if values.shape != pixels.shape[:2]:
        raise PlotError(
            f"a map of {_by(values.shape)} does not fit an image of {_by(pixels.shape[:2])}; resample a patch map to "
            "pixels first, with site.to_image(patch_map, (height, width))"
        )
    scale = scale or color_scale(values)
    colours = np.asarray(scale.to_rgba(values))[..., :3]
    return _draw(scale, _over_grey(pixels, colours, opacity), "bicubic", ax, label)


def side_by_side(
    image: ArrayLike,
    *heats: ArrayLike,
    titles: Sequence[str] = (),
    labels: str | Sequence[str] = "activation",
    scales: Sequence[ScalarMappable | None] = (),
) -> Figure:
    """Draw an image, and beside it each map over that image with its scale bar.

    Parameters
    ----------
    image, *heats
        As for :func:`overlay`.
    titles
        Of the image and of each map.
    labels
        What each map measures, for its scale bar, or one label for all.
    scales
        From :func:`color_scale`, one for each map; each map's own when not given.

    Returns
    -------
    Figure
        Matplotlib's, apart from pyplot; show it in a notebook or save it with :func:`save_figure`.

    Raises
    ------
    PlotError
        As for :func:`overlay`, or there are not as many titles, labels or scales as there is to draw.
    """
    pixels = _pixels(image)
    labels = [labels] * len(heats) if isinstance(labels, str) else labels
    titles = titles or [""] * (len(heats) + 1)
    scales = scales or [None] * len(heats)
    needs = {"titles": (titles, len(heats) + 1), "labels": (labels, len(heats)), "scales": (scales, len(heats))}
    for name, (given, needed) in needs.items():
        if len(given) != needed:
            raise PlotError(f"{len(given)} {name} do not fit an image and its maps ({len(heats)}); give {needed}")
    height = 3.0 * pixels.shape[0] / pixels.shape[1]
    figure = Figure(figsize=(3.2 + 3.9 * len(heats), height + 0.5), layout="constrained", facecolor="white")
    axes: list[Axes] = list(np.ravel(figure.subplots(1, len(heats) + 1)))
    _without_frame(axes[0]).imshow(pixels, interpolation="bicubic")
    for ax, heat, label, scale in zip(axes[1:], heats, labels, scales, strict=True):
        overlay(pixels, heat, ax, label=label, scale=scale)
    for ax, title in zip(axes, titles, strict=True):
        # File names may hold dollar signs, which are not mathematics, and what no font shows.
        ax.set_title(shown(title), size=10, parse_math=False)
    return figure


def _draw(scale: ScalarMappable, picture: NDArray[Any], interpolation: str, ax: Axes | None, label: str) -> Axes:
    """Draw values or colours, and beside them the scale bar."""
    ax = ax if ax is not None else Figure(layout="constrained", facecolor="white").add_subplot()
    norm: Any = scale.norm
    _without_frame(ax).imshow(picture, interpolation=interpolation, norm=norm, cmap=scale.cmap)
    bar = ax.figure.colorbar(scale, ax=ax, fraction=0.05, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label(label)
    return ax


def _without_frame(ax: Axes) -> Axes:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def _over_grey(pixels: NDArray[Any], colours: NDArray[Any], opacity: float) -> NDArray[np.float32]:
    """Colours ``(H, W, 3)`` over a grey version of an image ``(H, W, 3)``."""
    grey = (pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    return np.asarray((1 - opacity) * grey + opacity * colours, dtype=np.float32)


def _array(values: ArrayLike) -> NDArray[np.float64]:
    """Numbers from an array, or from a tensor on any device and with a gradient or not."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PlotError(f"{shortly(values)} cannot be drawn; give an array or a tensor of numbers") from error


def _pixels(image: ArrayLike) -> NDArray[np.float64]:
    """An image as ``(H, W, 3)``."""
    pixels = _array(image)
    if pixels.ndim == 3 and pixels.shape[2] != 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise PlotError(
            f"an image of shape {pixels.shape} cannot be drawn; give one (height, width, 3) or (3, height, width)"
        )
    if not (pixels.min() >= -1e-3 and pixels.max() <= 1 + 1e-3):
        raise PlotError(
            f"pixels from {pixels.min():.3g} to {pixels.max():.3g} cannot be drawn; give them in [0, 1], "
            "before the model's normalization or after vit.preprocessing.denormalize"
        )
    return pixels.clip(0, 1)


def _map(values: ArrayLike) -> NDArray[np.float64]:
    """A map as ``(H, W)``; channels are summed."""
    heat = _array(values)
    if heat.ndim == 3 and 3 in (heat.shape[0], heat.shape[2]):
        heat = heat.sum(axis=2 if heat.shape[2] == 3 else 0)
    if heat.ndim != 2 or not heat.size:
        raise PlotError(
            f"a map of shape {heat.shape} cannot be drawn; give that of one image, (rows, columns) or (height, width), "
            "or its attribution (3, height, width)"
        )
    if not np.isfinite(heat).all():
        raise PlotError("a map with infinite values or NaN cannot be drawn")
    return heat


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
