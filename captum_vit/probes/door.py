"""What stands before a model's stem: how a wrapper changes colours and size of an image on the way, measured.

A wrapper may normalize, resize or crop. Test images go in at its door, and the stem tells what arrives; the pass ends
there, before the model's own work begins.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from captum_vit.errors import GridError
from captum_vit.probes.devices import input_of
from captum_vit.probes.forward_pass import StopForward, image_of
from captum_vit.probes.grid import PatchGrid, Size

# Of colours and places, in their own range: half precision and interpolation stay below it.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Colours:
    """What becomes of colours: ``scale * x + offset``, per channel."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


class Door:
    """The way of an image from a wrapper to the stem of the model in it.

    Parameters
    ----------
    model
        The wrapper.
    stem
        The module inside it that receives the image.
    channels
        Of its images.
    """

    def __init__(self, model: nn.Module, stem: nn.Module, channels: int = 3) -> None:
        self.model = model
        self.stem = stem
        self.channels = channels
        self._places: dict[Size, Places] = {}

    def colours(self, size: Size) -> Colours | None:
        """What becomes of the colours of an image of ``(height, width)`` pixels; None where it is no simple thing.

        Colours are looked at in images of one colour each, which resizing leaves as they are.
        """
        values = [[0.0] * self.channels, [1.0] * self.channels, [0.2, 0.5, 0.9][: self.channels]]
        values[2] += [0.7] * (self.channels - len(values[2]))
        seen = self._seen(torch.tensor(values)[:, :, None, None].expand(-1, -1, *size))
        if seen is None or seen.shape[1] != self.channels:
            return None
        middle = seen[..., seen.shape[2] // 2, seen.shape[3] // 2]
        offset, scale = middle[0], middle[1] - middle[0]
        expected = offset + scale * torch.tensor(values[2])
        if not scale.isfinite().all() or (scale.abs() < 1e-6).any():
            return None
        if ((middle[2] - expected).abs() > _TOLERANCE * scale.abs()).any():
            return None
        return Colours(tuple(scale.tolist()), tuple(offset.tolist()))

    def places(self, size: Size) -> Places:
        """Where in an image of ``(height, width)`` pixels the stem's pixels come from.

        Raises
        ------
        GridError
            They do not come from rows and columns of the image.
        """
        if size not in self._places:
            self._places[size] = self._look(size)
        return self._places[size]

    def moves(self, size: Size) -> bool:
        """Whether images of that size, or of another, come to the stem in other places than they are passed in."""
        height, width = size
        for asked in (size, (height + 32, width + 64)):
            try:
                places = self.places(asked)
            except GridError:
                return True
            rows, columns = (np.arange(side) + 0.5 for side in asked)
            if places.size != asked or not (
                np.allclose(places.rows, rows, atol=0.3) and np.allclose(places.columns, columns, atol=0.3)
            ):
                return True
        return False

    def _look(self, size: Size) -> Places:
        height, width = size
        rows = (torch.arange(height) + 0.5) / height
        columns = (torch.arange(width) + 0.5) / width
        ramps = torch.stack(
            [torch.zeros(size), torch.ones(size), rows[:, None].expand(size), columns[None].expand(size)]
        )
        seen = self._seen(ramps[:, None].expand(-1, self.channels, -1, -1))
        if seen is None:
            raise GridError(
                f"a {height}x{width} image does not come to the model's stem; give one of a size that the wrapper takes"
            )
        seen = seen[:, 0]
        share = (seen - seen[0]) / (seen[1] - seen[0])
        down, across = share[2].mean(dim=1), share[3].mean(dim=0)
        crooked = (share[2] - down[:, None]).abs().max(), (share[3] - across).abs().max()
        if not share[2:].isfinite().all() or max(crooked) > _TOLERANCE:
            raise GridError(
                "the wrapper around the model moves the image in a way that keeps no rows and columns, so that cells "
                "have no place in it; give the model inside the wrapper the image itself"
            )
        return Places(height * down.double().numpy(), width * across.double().numpy())

    @torch.no_grad()
    def _seen(self, images: Tensor) -> Tensor | None:
        """What arrives at the stem, on the CPU; None if nothing does."""
        device, dtype = input_of(self.model, self.stem)
        if device.type == "meta":
            return None
        arrived: list[Tensor] = []

        def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            arrived.append(image_of(args, kwargs))
            raise StopForward(None)

        hook = self.stem.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.model(images.to(device, dtype))
        except (StopForward, Exception):
            # A wrapper that takes something else than images cannot be looked through.
            pass
        finally:
            hook.remove()
        if len(arrived) != 1 or arrived[0].shape[0] != images.shape[0]:
            return None
        return arrived[0].detach().float().cpu()


@dataclass(frozen=True)
class Places:
    """For each row and column of pixels at the stem, where it comes from, in pixels of the image at the door."""

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    @property
    def size(self) -> Size:
        """(height, width) of the image at the stem."""
        return len(self.rows), len(self.columns)


@dataclass(frozen=True)
class Fit:
    """A door at which images of any size are resized to one, perhaps before another door.

    Attributes
    ----------
    size
        (height, width) in pixels.
    behind
        The way on from there to the stem; None where the image goes in as it is.
    """

    size: Size
    behind: Door | None = None

    def resize(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` of the size, averaged where they shrink; those that have it are not touched."""
        if images.shape[-2:] == self.size:
            return images
        # Half precision is not known to this on every device.
        whole = images if images.dtype == torch.float64 else images.float()
        resized = interpolate(whole, self.size, mode="bilinear", align_corners=False, antialias=True)
        return resized.to(images.dtype)

    def places(self, size: Size) -> Places:
        """See :meth:`Door.places`."""
        if self.behind is None:
            height, width = self.size
            within = Places(np.arange(height, dtype=np.float64) + 0.5, np.arange(width, dtype=np.float64) + 0.5)
        else:
            within = self.behind.places(self.size)
        down, across = (there / here for there, here in zip(size, self.size, strict=True))
        return Places(np.multiply(within.rows, down), np.multiply(within.columns, across))


@dataclass(frozen=True)
class SeenThrough(PatchGrid):
    """The grid of a model behind a door, in the pixels of the image that the caller passes."""

    door: Door | Fit = field(kw_only=True, compare=False, repr=False)

    @classmethod
    def of(cls, grid: PatchGrid, door: Door | Fit) -> SeenThrough:
        """A model's own grid, behind a door."""
        return cls(grid.rows, grid.columns, door=door)

    def __call__(self, image_size: Size) -> Size:
        """See :class:`PatchGrid`."""
        return super().__call__(self.door.places(image_size).size)

    def centres(self, image_size: Size) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See :class:`PatchGrid`."""
        places = self.door.places(image_size)
        centres = PatchGrid(self.rows, self.columns).centres(places.size)
        down, across = (
            np.interp(at, np.arange(len(axis)) + 0.5, axis)
            for at, axis in zip(centres, (places.rows, places.columns), strict=True)
        )
        return down, across

    def __deepcopy__(self, memo: dict[int, Any]) -> SeenThrough:
        # The door is the copy's own where its model is copied, too.
        return SeenThrough(self.rows, self.columns, door=copy.deepcopy(self.door, memo))
