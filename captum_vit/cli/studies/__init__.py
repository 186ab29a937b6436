"""The commands ``captum-vit study NAME``: one file a study; what they share is in running."""

from __future__ import annotations

import typer

from captum_vit.cli.studies.attention import attention
from captum_vit.cli.studies.background import background
from captum_vit.cli.studies.class_token import class_token
from captum_vit.cli.studies.concepts import concepts
from captum_vit.cli.studies.depth import depth
from captum_vit.cli.studies.frequency import frequency
from captum_vit.cli.studies.pooling import pooling
from captum_vit.cli.studies.position import position

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

for command, example in (
    (frequency, "captum-vit study frequency deit_micro swin_micro --images photos/ --out study/"),
    (background, "captum-vit study background deit_micro --images photos/ --boxes Annotations/ --out study/"),
    (position, "captum-vit study position deit_micro swin_micro --images photos/ --out study/"),
    (depth, "captum-vit study depth deit_micro swin_micro --out study/"),
    (attention, "captum-vit study attention deit_micro swin_micro --images photos/ --out study/"),
    (pooling, "captum-vit study pooling deit_micro --images photos/ --out study/"),
    (class_token, "captum-vit study class-token deit_micro --images photos/ --block 4 --block 8 --out study/"),
    (concepts, "captum-vit study concepts deit_micro --images concepts/ --cards --out study/"),
):
    app.command(epilog=f"Example:  [cyan]{example}[/]")(command)


@app.callback()
def study() -> None:
    """Measure what whole models use and where: a table (.csv, .json) and a picture, of several models at once."""
