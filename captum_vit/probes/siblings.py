"""The sites beside a feed-forward site: queries, keys and values of its block, and what the block gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from captum_vit.errors import UnsupportedModelError
from captum_vit.probes.attention import Attention, Channels, width_written
from captum_vit.probes.kinds import ATTENTION, FEED_FORWARD, OUTPUT, PARTS, kind_named
from captum_vit.probes.site import Site


def sites_of(listed: Sequence[Site], kinds: Sequence[str], model_name: str, adapter: str) -> tuple[Site, ...]:
    """The sites of some kinds, block by block, in the order of the forward pass.

    Parameters
    ----------
    listed
        Those that an adapter lists.
    kinds
        The kinds that are asked for.
    model_name, adapter
        What messages call the model, and its adapter.

    Raises
    ------
    UnsupportedModelError
        There are none of a kind, in no block.
    """
    own = {site.name: site for site in listed}
    chosen: dict[str, Site] = {}
    for site in listed:
        beside = {ATTENTION: _attention(site), FEED_FORWARD: [site], OUTPUT: _output(site)}
        for kind in (ATTENTION, FEED_FORWARD, OUTPUT):
            if kind in kinds:
                chosen |= {each.name: own.get(each.name, each) for each in beside[kind]}
    if ATTENTION in kinds and not any(site.kind == ATTENTION for site in chosen.values()):
        reasons = [site.attention for site in listed if isinstance(site.attention, str)]
        raise _lacking("queries, keys and values", ATTENTION, reasons, model_name, adapter)
    if OUTPUT in kinds and not any(each.name in chosen for site in listed for each in _output(site)):
        reasons = [site.output for site in listed if isinstance(site.output, str)]
        raise _lacking("outputs of feed-forward blocks", OUTPUT, reasons, model_name, adapter)
    return tuple(chosen.values())


def _lacking(what: str, kind: str, reasons: Sequence[str], model_name: str, adapter: str) -> UnsupportedModelError:
    """The error of a model that has no site of a kind."""
    because = f"{adapter} does not tell which modules give them, by feed_forward(..., {kind}=...)"
    return UnsupportedModelError(
        f'{model_name} has no {what} as sites: {next(iter(reasons), because)}. Adapt it without sites of kind "{kind}"'
    )


def _attention(site: Site) -> Iterator[Site]:
    """Queries, keys and values of a site's block, as far as its adapter tells them."""
    attention = site.attention
    if not isinstance(attention, Attention):
        return
    for part, written in zip(PARTS, (attention.query, attention.key, attention.value), strict=True):
        channels = Channels.all_of(written) if isinstance(written, nn.Module) else written
        behind = channels.width - channels.first - channels.count
        layout = attention.layout or site.layout
        yield Site(
            f"{attention.name or site.name}.{part}",
            channels.count,
            site.grid if part == "query" or attention.coarser is None else attention.coarser,
            replace(layout, channels_before=channels.first, channels_after=behind),
            # Where only the class token is read in the end, it still looks at all keys and values.
            reaches_output=site.reaches_output or part != "query",
            writes=channels.module,
            kind=ATTENTION,
        )


def _output(site: Site) -> Iterator[Site]:
    """What a site's block makes of its hidden activation; a site that is called so itself, as ConvNets' are."""
    if kind_named(site.name) == OUTPUT:
        yield site
        return
    module = site.reads if site.output is None else site.output
    if module is None or isinstance(module, str):
        return
    units = width_written(module)
    # A strided convolution gives other cells than it reads.
    if units is None or getattr(module, "stride", 1) not in (1, (1, 1)):
        return
    yield replace(
        site,
        name=f"{site.name}.{OUTPUT}",
        units=units,
        reads=None,
        writes=module,
        activation=None,
        kind=OUTPUT,
        attention=None,
        output=None,
    )
