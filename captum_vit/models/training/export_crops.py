"""Writes crops of photos that no embedded model saw: ``python -m captum_vit.models.training.export_crops OUT``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.progress import track

from captum_vit.models.training.features import STUDENT_SIZE
from captum_vit.models.training.photos import held_out_photos, random_crops
from captum_vit.storage.files import replacing


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write to; made if it is not there.")],
    count: Annotated[int, typer.Option(min=1, help="Crops of each photo.")] = 100,
    size: Annotated[int, typer.Option(min=1, help="Side of the crops in pixels.")] = STUDENT_SIZE,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write crops as PNG files, for rankings and galleries of what the embedded models answer to."""
    out.mkdir(parents=True, exist_ok=True)
    photos = held_out_photos()
    for index, photo in enumerate(track(photos, f"{count} crops x {len(photos)} photos")):
        for number, crop in enumerate(random_crops(photo, count, size, np.random.default_rng([seed, index]))):
            with replacing(out / f"{photo.name}-{number:03}.png") as partial:
                Image.fromarray(crop).save(partial, format="PNG")


if __name__ == "__main__":
    typer.run(main)
