"""The command ``captum-vit draft``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from captum_vit.cli import words
from captum_vit.cli.console import stderr, stdout, warn
from captum_vit.cli.model import Model
from captum_vit.errors import OutputError
from captum_vit.storage.files import check_output, replacing

SUFFIXES = (".py",)


def draft(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=words.output(*SUFFIXES),
            help="Python file to write; captum_vit_CLASS.py here when not given. One that is there is left as it is.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels of the images to trace; the model's own when not given."),
    ] = None,
    order: Annotated[
        bool,
        typer.Option("--order/--no-order", help="Test whether cells look where the grid says; takes time."),
    ] = True,
) -> None:
    """Draft an adapter for a model that none serves, as a file to read, check and publish.

    The model is built with random weights, and one forward pass shows its feed-forward blocks.
    """
    from captum_vit.discovery.draft import draft as write
    from captum_vit.discovery.finding import discover
    from captum_vit.loading.build import build, sketch
    from captum_vit.models import available

    bare = sketch(model).model
    if out is None:
        out = Path(f"captum_vit_{re.sub(r'[^a-z0-9_]', '', type(bare).__name__.lower())}.py")
        check_output(out, SUFFIXES)
    if out.exists():
        raise OutputError(f"{out} is there already, and may have been edited; name another file with --out")
    with stderr().status(f"Looking for blocks in {escape(model)} ..."):
        found = discover(bare, size)
        network = build(model, random_weights=model not in available()).model if order else bare
    drafted = write(network, found, by=f"captum-vit draft {model}", order=order)
    with replacing(out) as partial:
        partial.write_text(drafted.text, encoding="utf-8")
    stdout().print(f"{escape(str(out))}: {len(found.sites)} sites. Order of the cells: {escape(drafted.order)}.")
    if drafted.order_holds is False:
        warn("tokens are in another order than rows: set layout= in the draft before it is used")
