"""What ranks images as they pass through a model: each site's maps are reduced as soon as they are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from captum_vit.errors import DatasetError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.ranking.measure import ACTIVATION, measure
from captum_vit.ranking.topk import (
    POSITIONS,
    Standings,
    UnitRanking,
    choose_peaks,
    find_peaks,
    peaks_of_all,
    row_maxima,
)


class Ranker:
    """Ranks what is measured of some sites' units, where the model is: nothing is read back meanwhile.

    Parameters
    ----------
    vit
        The adapted model.
    reduce
        From maps ``(B, units, rows, columns)`` of what is measured to one value of each, ``(B, units)``.
    units
        Rankings to go on with, by site, in the order of the forward pass.
    together
        Whether all sites are ranked at once at the end of each pass; when not given, on accelerators, which would
        spend more time on being told what to do with the few numbers of a site than on doing it. On the CPU each site
        is ranked by itself, while its maps are there to be looked at again.
    by
        What is measured, as :func:`captum_vit.ranking.measure.resolve_measure` gives it.

    Raises
    ------
    CaptumViTError
        Gradient checkpointing is on, or the model was restored.
    """

    def __init__(
        self,
        vit: AdaptedModel,
        reduce: Callable[[Tensor], Tensor],
        units: Mapping[str, UnitRanking],
        together: bool | None = None,
        by: str = ACTIVATION,
    ) -> None:
        self.vit = vit
        self.sites = tuple(units)
        parameter = next(vit.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._reduce = reduce
        self._with_patches = any(ranking.patches.size for ranking in units.values())
        self._together = self._device.type != "cpu" if together is None else together
        groups = [list(units.values())] if self._together else [[ranking] for ranking in units.values()]
        self._standings = [Standings(group, self._device) for group in groups]
        self._measure = measure(vit, by, self.sites, self._arrive)
        # Of the batch in the model: where its images are in the dataset, and what came of them, by site.
        self._places = torch.empty(0)
        self._values: dict[str, Tensor] = {}
        self._peaks: dict[str, Tensor] = {}

    def units(self) -> dict[str, UnitRanking]:
        """The rankings of all images so far, copied from the device."""
        rankings = [ranking for group in self._standings for ranking in group.rankings()]
        return dict(zip(self.sites, rankings, strict=True))

    @torch.no_grad()
    def add(self, images: Tensor, positions: Sequence[int]) -> None:
        """Pass a batch through the model, as far as what is measured asks, and rank what each unit makes of it.

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
        RankingError
            The model's output is not what relevance was to be to.
        """
        if max(positions) >= POSITIONS:
            raise DatasetError(f"the dataset has more than {POSITIONS} images; rank parts of it")
        # A copy from pinned memory need not be waited for.
        asynchronous = self._device.type == "cuda"
        self._places = torch.tensor(positions, device="cpu").to(self._device, non_blocking=asynchronous)
        self._measure(images.to(self._device, self._dtype, non_blocking=asynchronous))
        if self._together:
            choose = partial(choose_peaks, self._of_all_sites(self._peaks)) if self._with_patches else None
            self._standings[0].add(self._of_all_sites(self._values), self._places, choose)

    def _arrive(self, site: str, maps: Tensor) -> None:
        maps = maps.to(self._device)  # from another one, if the model is on several
        if self._together:
            self._values[site] = self._reduce(maps)
            if self._with_patches:
                self._peaks[site] = peaks_of_all(maps)
            return
        find = None
        if self._with_patches:  # then the reduction is to the maximum, which is that of the rows' maxima too
            maxima = row_maxima(maps)
            find, maps = partial(find_peaks, maps, maxima), maxima[..., None]
        self._standings[self.sites.index(site)].add(self._reduce(maps), self._places, find)

    def _of_all_sites(self, arrived: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([arrived[site] for site in self.sites], dim=1)
