"""The command line: one file a command."""

from __future__ import annotations

from typing import Annotated

import typer

from captum_vit.cli.atlas import atlas
from captum_vit.cli.attribute import attribute
from captum_vit.cli.card import card
from captum_vit.cli.console import Commands
from captum_vit.cli.doctor import doctor
from captum_vit.cli.draft import draft
from captum_vit.cli.gallery import gallery
from captum_vit.cli.listing import adapters, sites
from captum_vit.cli.model import DEFAULT_MODEL, DEFAULT_NEURON
from captum_vit.cli.patch_map import patch_map
from captum_vit.cli.render import render
from captum_vit.cli.studies import app as studies
from captum_vit.cli.top_images import top_images

__all__ = ["DEFAULT_MODEL", "DEFAULT_NEURON", "app", "main"]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the ``captum-vit`` command."""
    app()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"captum-vit {version('captum-vit')}")
        raise typer.Exit


@app.callback(
    epilog="Examples: [cyan]captum-vit card[/] | [cyan]captum-vit card deit_small_patch16_224 blocks.8:42 "
    "--images photos/[/] | [cyan]captum-vit sites swin_tiny_patch4_window7_224[/]"
)
def common(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Look at the feed-forward neurons of vision transformers."""


for command, example in (
    (card, "captum-vit card deit_small_patch16_224 blocks.8:42 --images photos/ --out neuron.png"),
    (gallery, "captum-vit gallery swin_micro --images photos/ --out gallery.png"),
    (render, "captum-vit render deit_small_patch16_224 blocks.0:0-15 blocks.8:random:16"),
    (patch_map, "captum-vit patch-map deit_micro blocks.4:307 --images photos/"),
    (attribute, "captum-vit attribute deit_micro blocks.4:307 --images cat.jpg --method occlusion"),
    (top_images, "captum-vit top-images deit_small_patch16_224 --images photos/ -k 10"),
    (atlas, "captum-vit atlas deit_small_patch16_224 blocks.8:all --images photos/"),
    (sites, "captum-vit sites swin_tiny_patch4_window7_224"),
    (adapters, "captum-vit adapters"),
    (draft, "captum-vit draft tnt_s_patch16_224 --out captum_vit_tnt.py"),
    (doctor, "captum-vit doctor"),
):
    app.command(epilog=f"Example:  [cyan]{example}[/]")(command)

app.add_typer(studies, name="study")
