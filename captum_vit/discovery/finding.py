"""``discover``: the feed-forward sites that one forward pass of a model shows, without an adapter."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field

from torch import nn

from captum_vit.checks import shortly
from captum_vit.discovery import names
from captum_vit.discovery.grids import Lie, lie
from captum_vit.discovery.sites import Pair, pairs
from captum_vit.discovery.steps import GridStep
from captum_vit.discovery.trace import Trace, trace, twin
from captum_vit.errors import ArgumentError, UnsupportedModelError
from captum_vit.probes.grid import PatchGrid, Size

# What packages call the module that cuts the image into patches. Others that get the image are trunks and stages.
_STEM = re.compile(r"(stem|embed\w*)(\.\d+)?$")


@dataclass(frozen=True)
class FoundSite:
    """A feed-forward block that a forward pass showed.

    Attributes
    ----------
    name
        Module path of the block.
    reads
        Module path of the layer whose input is the hidden activation.
    units
        Number of its channels.
    layout
        How it lies in memory, as :func:`captum_vit.feed_forward` takes it.
    prefix_tokens, suffix_tokens
        Tokens before and after those of the image.
    grid
        From pixels to its cells.
    steps
        The steps of the grid, with the modules that take them.
    doubts
        What of all this was guessed.
    """

    name: str
    reads: str
    units: int
    layout: str
    prefix_tokens: int
    suffix_tokens: int
    grid: PatchGrid = field(repr=False)
    steps: tuple[GridStep, ...] = field(repr=False)
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Discovery:
    """What the forward passes of a model showed.

    Attributes
    ----------
    sites
        Feed-forward blocks with a grid, in the order of the pass.
    stem
        Module path of the module that first receives the image; None if no module gets it as it comes.
    image_sizes
        (height, width) of the images that were traced: the second only where the model takes another size.
    unclear
        Names of feed-forward blocks whose activations form no grid that could be told, with their shapes.
    in_stem
        Names of those inside of the stem, which are taken for a part of it: convolutions on the way to patches.
    """

    sites: tuple[FoundSite, ...]
    stem: str | None
    image_sizes: tuple[Size, ...]
    unclear: tuple[tuple[str, tuple[int, ...]], ...] = ()
    in_stem: tuple[str, ...] = ()

    @property
    def left_out(self) -> dict[tuple[int, ...], str]:
        """Words for those that are unclear, by their shape: ``"blocks.0 and 11 more are"``."""
        by_shape = defaultdict(list)
        for name, shape in self.unclear:
            by_shape[shape].append(name)
        return {
            shape: f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more are"
            for shape, names in by_shape.items()
        }

    @property
    def doubts(self) -> tuple[str, ...]:
        """All that was guessed, each with the first site that it is about."""
        found = {doubt: site.name for site in reversed(self.sites) for doubt in site.doubts}
        return tuple(f"{name}: {doubt}" for doubt, name in found.items())


def discover(model: nn.Module, image_size: int | Size | None = None) -> Discovery:
    """List the feed-forward sites that a forward pass of a model shows, whether or not an adapter serves it.

    One image of zeros goes through a copy of the model on the meta device, which takes no memory (through one that
    shares the model's weights, where it does not run there), and a second one of another shape, if the model takes it.
    This drafts an adapter for a person to check, and is never taken in an adapter's place: the order of tokens cannot
    be told from shapes.

    Parameters
    ----------
    model
        Any model that takes images ``(B, 3, height, width)``.
    image_size
        (height, width) in pixels, or the side of a square; the model's own, or else 224, when not given.

    Raises
    ------
    UnsupportedModelError
        The model cannot be copied, or takes no images of that size.

    Examples
    --------
    >>> import timm
    >>> found = discover(timm.create_model("deit_tiny_patch16_224"))
    >>> found.stem, found.sites[0]
    ('patch_embed', FoundSite(name='blocks.0', reads='blocks.0.mlp.fc2', units=768, layout='b (h w) c', \
prefix_tokens=1, suffix_tokens=0, doubts=()))
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is {shortly(model)}; give the model itself")
    traces = _traces(model, _checked(image_size, model))
    found = [pairs(each) for each in traces]
    if len(found) == 2 and [p.second.path for p in found[0]] != [p.second.path for p in found[1]]:
        traces, found = traces[:1], found[:1]
    stem = _stem(traces[0], found[0])
    in_stem = [pair for pair in found[0] if _is_in(pair.second.path, stem)]
    found = [[pair for pair in some if not _is_in(pair.second.path, stem)] for some in found]
    sites, unclear = [], []
    called = names.names(model, found[0])
    several = Counter(called)
    for i, (name, pair) in enumerate(zip(called, found[0], strict=True)):
        how = lie([(each.image_size, some[i].second) for each, some in zip(traces, found, strict=True)])
        if how is None or several[name] > 1:
            unclear.append((name, pair.second.shape))
        else:
            sites.append(_site(name, pair, how))
    return Discovery(
        tuple(sites),
        stem,
        tuple(each.image_size for each in traces),
        tuple(unclear),
        tuple(names.names(model, in_stem)),
    )


def _site(name: str, pair: Pair, how: Lie) -> FoundSite:
    second = pair.second
    others = how.prefix_tokens, how.suffix_tokens
    return FoundSite(name, second.path, second.width, how.layout, *others, how.grid, how.steps, how.doubts)


def _traces(model: nn.Module, size: Size) -> list[Trace]:
    """Traces at a size and, where the model takes it, at one of another shape."""
    failures = []
    for device in ("meta", None):
        try:
            copied = twin(model, device)
            traces = [trace(copied, size)]
        # A user's model may fail in its own way, on meta above all, where values cannot be looked at.
        except Exception as error:
            failures.append(error)
            continue
        with suppress(Exception):  # most models take one size
            traces.append(trace(copied, (size[0], 2 * size[1]), follow_places=False))
        return traces
    brief = " ".join(str(failures[-1]).split())[:200]
    raise UnsupportedModelError(
        f"{type(model).__name__} cannot be traced with images of {size[0]}x{size[1]} pixels "
        f"({type(failures[-1]).__name__}: {brief}); give the size that it takes with image_size=(height, width)"
    ) from failures[-1]


def _checked(image_size: int | Size | None, model: nn.Module) -> Size:
    if image_size is None:
        config = getattr(model, "pretrained_cfg", None) or {}
        known = config.get("input_size") if isinstance(config, dict) else None
        image_size = tuple(known[-2:]) if known else getattr(getattr(model, "config", None), "image_size", 224)
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ArgumentError(f"image_size is {shortly(image_size)}; give (height, width) in pixels, or one side")
    return sides[0], sides[1]


def _stem(trace: Trace, found: list[Pair]) -> str | None:
    """The outermost module that gets the image and holds no site; one that is called a stem may hold a few."""
    for path in trace.entered:
        held = sum(_is_in(pair.second.path, path) for pair in found)
        if path and (held == 0 or (_STEM.search(path) and 2 * held < len(found))):
            return path
    return None


def _is_in(path: str, outer: str | None) -> bool:
    return outer is not None and f"{path}.".startswith(f"{outer}.")
