"""What a ranking measures: a neuron's activation at each patch, or its relevance there, and what is made of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from captum_vit.errors import RankingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.ranking.relevance import PREFIX, RELEVANCE, RelevancePass, find_target
from captum_vit.ranking.topk import row_maxima

ACTIVATION = "activation"

# From maps (B, units, rows, columns) to one value for each image and unit, (B, units); the usual one is first.
REDUCTIONS: Mapping[str, Mapping[str, Callable[[Tensor], Tensor]]] = {
    ACTIVATION: {
        "mean": lambda maps: maps.mean(dim=(2, 3), dtype=torch.float32),
        "max": lambda maps: row_maxima(maps).amax(dim=2).float(),
    },
    RELEVANCE: {  # contributions add up
        "sum": lambda maps: maps.sum(dim=(2, 3), dtype=torch.float32),
        "max": lambda maps: row_maxima(maps).amax(dim=2).float(),
    },
}

# Gets each site's name and what was measured there, (B, units, rows, columns), as soon as it is known.
Listener = Callable[[str, Tensor], None]


def resolve_measure(vit: AdaptedModel, by: str) -> str:
    """What a ranking measures, in full: to which output relevance is, if that was left to the model.

    Parameters
    ----------
    vit
        The adapted model.
    by
        ``"activation"``, ``"relevance"``, or ``"relevance:OUTPUT"`` as :func:`find_target` reads it.

    Raises
    ------
    RankingError
        There is no such measure.
    """
    if by == ACTIVATION:
        return by
    if isinstance(by, str) and (by == RELEVANCE or by.startswith(PREFIX)):
        return PREFIX + find_target(vit, by.removeprefix(RELEVANCE).removeprefix(":")).name
    raise RankingError(
        f'rankings are not by "{by}"; rank by "activation", "relevance", or "relevance:OUTPUT" with OUTPUT a number, '
        '"top", "norm" or "sum"'
    )


def kind_of(by: str) -> str:
    """``"activation"`` or ``"relevance"``, to whichever output."""
    return RELEVANCE if by.startswith(RELEVANCE) else ACTIVATION


def find_reduction(name: str, by: str = ACTIVATION) -> Callable[[Tensor], Tensor]:
    """The reduction of that name: maps ``(B, units, rows, columns)`` of what is measured to values ``(B, units)``.

    Raises
    ------
    RankingError
        What is measured has no such reduction.
    """
    known = REDUCTIONS[kind_of(by)]
    if name not in known:
        raise RankingError(f'no reduction "{name}"{_named(by)}; there are: {", ".join(known)}')
    return known[name]


def measure(vit: AdaptedModel, by: str, sites: Sequence[str], listener: Listener) -> Callable[[Tensor], None]:
    """What passes images ``(B, 3, H, W)`` through a model, and hands a listener what it measures at each site.

    Parameters
    ----------
    vit
        The adapted model.
    by
        As :func:`resolve_measure` gives it.
    sites
        Their names.
    listener
        Gets each site's name and map.

    Raises
    ------
    CaptumViTError
        Gradient checkpointing is on, or the model was restored.
    """
    collect = vit.collector(sites, listener)
    if kind_of(by) == RELEVANCE:
        return RelevancePass(vit, sites, find_target(vit, by.removeprefix(PREFIX)), listener)

    @torch.no_grad()
    def activations(images: Tensor) -> None:
        with collect():
            vit(images)

    return activations


def _named(by: str) -> str:
    return "" if by == ACTIVATION else f" of {kind_of(by)}"
