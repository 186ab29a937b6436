"""What ranks images as they pass through a model: each site's maps are reduced and ranked as soon as they are there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_vit.errors import CaptumViTError, DatasetError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.ranking.topk import POSITIONS, Standings, UnitRanking


class Ranker:
    """Ranks what the units of some sites make of images, where the model is: nothing is read back meanwhile.

    Parameters
    ----------
    vit
        The adapted model.
    reduce
        From maps ``(B, units, rows, columns)`` to activations ``(B, units)``.
    units
        Rankings to go on with, by site, in the order of the forward pass.

    Raises
    ------
    CaptumViTError
        Gradient checkpointing is on, or the model was restored.
    """

    def __init__(self, vit: AdaptedModel, reduce: Callable[[Tensor], Tensor], units: Mapping[str, UnitRanking]) -> None:
        self.vit = vit
        self.reduce = reduce
        self._units = units
        self._standings: dict[str, Standings] = {}
        self._stop_after_last = vit.collector([list(units)[-1]])
        parameter = next(vit.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype

    def units(self) -> dict[str, UnitRanking]:
        """The rankings of all images so far, copied from the device."""
        return {
            name: self._standings[name].ranking() if name in self._standings else ranking
            for name, ranking in self._units.items()
        }

    @torch.no_grad()
    def add(self, images: Tensor, positions: Sequence[int]) -> None:
        """Pass a batch through the model as far as the last site, and rank what each unit makes of it.

        Parameters
        ----------
        images
            As the model expects them, ``(B, 3, H, W)``, on any device.
        positions
            Their positions in the dataset, ``B`` of them.

        Raises
        ------
        CaptumViTError
            The forward pass does not come to all sites.
        DatasetError
            The dataset is too large.
        """
        if max(positions) >= POSITIONS:
            raise DatasetError(f"the dataset has more than {POSITIONS} images; rank parts of it")
        # A copy from pinned memory need not be waited for.
        asynchronous = self._device.type == "cuda"
        places = torch.tensor(positions, device="cpu").to(self._device, non_blocking=asynchronous)
        arrived: set[str] = set()
        with ExitStack() as hooks, self._stop_after_last():
            for name in self._units:
                hook = partial(self._rank, name, places, arrived, threading.get_ident())
                hooks.callback(self.vit.ffn[self.vit.site(name).key].register_forward_hook(hook).remove)
            self.vit(images.to(self._device, self._dtype, non_blocking=asynchronous))
        if missed := [name for name in self._units if name not in arrived]:
            raise CaptumViTError(
                f"the forward pass of {self.vit.model_name} ended without reaching {', '.join(missed)}"
            )

    def _rank(
        self, name: str, places: Tensor, arrived: set[str], thread: int, probe: nn.Module, inputs: Any, maps: Tensor
    ) -> None:
        if threading.get_ident() != thread:  # another's pass through the same model
            return
        arrived.add(name)
        if name not in self._standings:  # where the maps are, in case the model is on several devices
            self._standings[name] = Standings(self._units[name], maps.device)
        self._standings[name].add(self.reduce(maps), places.to(maps.device), maps)
