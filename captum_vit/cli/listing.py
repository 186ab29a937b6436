"""The commands that list: ``captum-vit sites`` and ``captum-vit adapters``."""

from __future__ import annotations

import warnings
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from captum_vit.cli import words
from captum_vit.cli.console import stdout
from captum_vit.cli.model import DEFAULT_MODEL, Model, ModelChoice
from captum_vit.probes.kinds import FEED_FORWARD, KINDS


def sites(
    model: Model = DEFAULT_MODEL,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            callback=words.kinds,
            help=f"Kind of site: {', '.join(KINDS)}, or all; may be repeated. Without it, {FEED_FORWARD}, the hidden "
            "activations of feed-forward blocks.",
        ),
    ] = None,
) -> None:
    """List a model's sites, the places where its neurons are; takes no weights."""
    with ModelChoice(model, kinds=tuple(kinds or [FEED_FORWARD])).sketch() as vit:
        height, width = vit.preprocessing.size
        table = Table(
            title=f"{escape(model)}: family {vit.family}, {len(vit.sites)} sites, {height}×{width} pixels",
            title_justify="left",
        )
        table.add_column("Site", no_wrap=True)
        table.add_column("Lucent layer", no_wrap=True)
        for heading in ("Units", "Grid", "Prefix tokens"):
            table.add_column(heading, justify="right")
        table.add_column("Patch tokens reach output")
        for site in vit.sites:
            rows, columns = site.grid((height, width))
            reaches = "yes" if site.reaches_output else "no"
            table.add_row(site.name, site.layer, str(site.units), f"{rows}×{columns}", str(site.prefix_tokens), reaches)
    stdout().print(table)


def adapters() -> None:
    """List the families that can be adapted, where each adapter comes from, and plugins that failed."""
    from captum_vit.errors import PluginWarning
    from captum_vit.probes.plugins import registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the table says it
        plugins = registry()
    table = Table("Family", "Distribution", "Serves")
    for registered in plugins.adapters:
        served = ", ".join(_named(model) for model in registered.adapter.models) or "decides by itself"
        table.add_row(escape(registered.adapter.family), escape(registered.distribution), escape(served))
    stdout().print(table)
    if plugins.failures:
        failed = Table("Failed plugin", "Distribution", "Reason", border_style="red")
        for failure in plugins.failures:
            failed.add_row(escape(failure.entry_point), escape(failure.distribution), escape(failure.reason))
        stdout().print(failed)


def _named(model: type | str) -> str:
    """A class without its module, whether it is there or given by its path."""
    return model.rpartition(".")[2] if isinstance(model, str) else model.__name__
