"""Controls: the same architecture at random weights, to tell what was learned from what the architecture gives."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from captum_vit.loading.build import adapted, build
from captum_vit.models.registry import MODELS
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.kinds import FEED_FORWARD
from captum_vit.probes.source import LoadedModel


def untrained(name: str, *, seed: int = 0, sites: str | Iterable[str] = FEED_FORWARD) -> AdaptedModel:
    """A model at random weights, as its library draws them: an embedded one too.

    Parameters
    ----------
    name
        As for :func:`captum_vit.load_model`.
    seed
        Of the random weights; the caller's random numbers are left alone.
    sites
        Kinds of sites.

    Returns
    -------
    AdaptedModel
        On the CPU, in float32 and in eval mode.

    Raises
    ------
    ModelNameError
        There is no model of that name, or its library is not installed.
    """
    if name not in MODELS:
        return adapted(build(name, random_weights=True, seed=seed), sites)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return adapted(LoadedModel(MODELS[name].build()), sites)
