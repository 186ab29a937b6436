"""Models by name, with their weights: an embedded model's own, a library's published ones, a file's or random ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from captum_vit import models
from captum_vit.checks import briefly, shortly
from captum_vit.errors import CaptumViTError, ModelNameError, WeightsError
from captum_vit.loading.checkpoint import fitted, read_checkpoint
from captum_vit.loading.names import canonical, check_scheme, split
from captum_vit.probes.kinds import FEED_FORWARD
from captum_vit.probes.plugins import registry
from captum_vit.probes.source import LoadedModel, ModelSource

if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel


def load_model(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    random_weights: bool = False,
    seed: int = 0,
    sites: str | Iterable[str] = FEED_FORWARD,
) -> AdaptedModel:
    """Load a model by name and adapt it: what the commands do with ``MODEL`` and ``--checkpoint``.

    Parameters
    ----------
    name
        An embedded model (``"deit_micro"``), one of timm's (``"deit_small_patch16_224"``), or one of another library by
        its scheme: ``"transformers:facebook/dinov2-small"``, ``"torchvision:vit_b_16"``,
        ``"open_clip:ViT-B-32/laion2b_s34b_b79k"``.
    checkpoint
        File or folder with its weights, instead of the published ones. No code of a file is run.
    random_weights
        Whether to initialize the weights at random instead.
    seed
        Of the random weights.
    sites
        Which kinds of sites it has, as :func:`captum_vit.adapt` takes them: ``"feed_forward"``, ``"attention"``,
        ``"output"``, several, or ``"all"``.

    Returns
    -------
    AdaptedModel
        On the CPU, in float32 and in eval mode; ``.preprocessing`` is what the model's library says, and the output
        one tensor.

    Raises
    ------
    ModelNameError
        There is no model of that name, or its library is not installed.
    WeightsError
        The weights cannot be had, or are not this model's.
    UnsupportedModelError
        No adapter serves the model, or it has no sites of a kind.
    """
    return adapted(build(name, checkpoint, random_weights, seed), sites)


def build(name: str, checkpoint: str | Path | None = None, random_weights: bool = False, seed: int = 0) -> LoadedModel:
    """Make a model, in eval mode on the CPU. Its weights are never random without being asked for.

    Parameters and errors are those of :func:`load_model`.
    """
    if checkpoint is not None and random_weights:
        raise WeightsError("--checkpoint and --random-weights exclude each other; give one of them")
    if name in models.available():
        if checkpoint is not None or random_weights:
            raise WeightsError(f"{name} comes with its weights; --checkpoint and --random-weights are for other models")
        return LoadedModel(models.load(name))
    source, rest = find(name)
    with _drawing(seed):
        if random_weights:
            loaded = _untrained(source, rest)
        elif checkpoint is not None:
            loaded = _filled(source, rest, Path(checkpoint))
        else:
            loaded = _published(source, rest)
    loaded.model.eval()
    return loaded


def sketch(name: str) -> LoadedModel:
    """Make a model to list its sites, in no time and memory.

    Its weights have shapes but no values; an embedded model comes with its own, as it is small.

    Raises
    ------
    ModelNameError
        There is no model of that name, its library is not installed, or the hub that should know it cannot be reached.
    """
    if name in models.available():
        return LoadedModel(models.load(name))
    loaded = _sketch(*find(name))
    loaded.model.eval()
    return loaded


def adapted(loaded: LoadedModel, sites: str | Iterable[str] = FEED_FORWARD) -> AdaptedModel:
    """Adapt a model as its library says, for some kinds of sites."""
    from captum_vit.probes.adapting import adapt

    return adapt(loaded.model, preprocessing=loaded.preprocessing, output=loaded.output, sites=sites)


def build_model(
    name: str, checkpoint: str | Path | None = None, random_weights: bool = False, seed: int = 0
) -> nn.Module:
    """Make the bare model alone; see :func:`build`."""
    return build(name, checkpoint, random_weights, seed).model


def build_without_weights(name: str) -> nn.Module:
    """Make the bare model alone, without weights; see :func:`sketch`."""
    return sketch(name).model


def find(name: str) -> tuple[ModelSource, str]:
    """The source of a model, and its name there.

    Raises
    ------
    ModelNameError
        No source has its scheme, the library is not installed, or has no model of that name.
    """
    if not isinstance(name, str):
        raise ModelNameError(f'the name of a model is a text, such as "deit_micro", and this is {shortly(name)}')
    check_scheme(name, registry().schemes())
    scheme, rest = split(name)
    source = registry().source(scheme)
    assert source is not None, "its scheme is among the registry's"
    if source.library is not None and find_spec(source.library) is None:
        raise ModelNameError(
            f"{name} needs the library {source.library}, which is not installed; pip install {source.install}"
        )
    source.check_name(rest)
    return source, rest


def _untrained(source: ModelSource, name: str) -> LoadedModel:
    # For a name on the hub or in a folder, even the architecture is only known there.
    with _told(ModelNameError, f"{_full(source, name)} cannot be built"):
        return source.untrained(name)


def _sketch(source: ModelSource, name: str) -> LoadedModel:
    """A model without values; at random weights if it computes with them while it is made."""
    with _drawing(0):
        try:
            with torch.device("meta"):
                return source.untrained(name)
        except CaptumViTError:
            raise
        except Exception:  # of the missing values, or else it comes again
            return _untrained(source, name)


def _published(source: ModelSource, name: str) -> LoadedModel:
    # What goes wrong on the way to the hub is of many kinds (OSError, httpx's and requests' own errors).
    advice = "give a local file with --checkpoint FILE, or take an untrained model with --random-weights"
    with _told(WeightsError, f"the weights of {_full(source, name)} cannot be had from the hub", advice):
        return source.published(name)


def _filled(source: ModelSource, name: str, path: Path) -> LoadedModel:
    weights = read_checkpoint(path)
    weights = fitted(weights, _sketch(source, name).model.state_dict().keys())
    # Conversions fail with KeyError and the like on weights of another architecture.
    with _told(WeightsError, f"the weights in {path} are not those of {_full(source, name)}"):
        return source.filled(name, weights)


def _full(source: ModelSource, name: str) -> str:
    return canonical(f"{source.scheme}:{name}")


@contextmanager
def _told(kind: type[CaptumViTError], what: str, advice: str = "") -> Iterator[None]:
    """Context in which whatever a library raises becomes one line; this package's own errors pass."""
    try:
        yield
    except CaptumViTError:
        raise
    except Exception as error:
        raise kind(f"{what} ({briefly(error)})" + (f"; {advice}" if advice else "")) from error


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Context in which random weights come from a seed, and the caller's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
