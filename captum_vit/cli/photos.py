"""What the commands on single photos share: each is read, explained and drawn by itself, and bad ones are reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from captum_vit.cli import console
from captum_vit.storage.files import shown
from captum_vit.storage.marks import SUFFIX, checksum, cut, distinct, file_name, mark_of, place

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.probes.address import Address

NeuronAddress = Annotated[str, typer.Argument(metavar="SITE:UNIT", help="The neuron, such as blocks.4:307.")]
Photos = Annotated[
    list[Path], typer.Argument(metavar="IMAGE", help="Photos, or folders that are searched with their subfolders.")
]
OutFolder = Annotated[Path, typer.Option(help="Folder to write to; made if it is not there.")]


def explain_photos(
    vit: AdaptedModel,
    model: str,
    address: Address,
    photos: Sequence[Path],
    out: Path,
    ending: str,
    what: Mapping[str, Any],
    explain: Callable[[Tensor, Tensor], Tensor],
    draw: Callable[[Tensor, Tensor, str], Figure],
    progress: bool = True,
) -> None:
    """Write an array and a picture for each photo, as soon as it is done, and print where they are.

    Parameters
    ----------
    vit
        The adapted model.
    model, address
        The model's name and the neuron, to print with its activations.
    photos
        Image files; those that cannot be read are reported at the end.
    out, ending
        Folder of the files, and what follows the photo's name in theirs. Files of something else stay; where one has
        that name, a checksum is added to it.
    what
        What the files hold, besides the model, the neuron and the photo that they are of; texts and numbers.
    explain
        From images ``(1, 3, H, W)`` as the model expects them, and the neuron's patch map ``(rows, columns)`` on them,
        to the array to save.
    draw
        From the crop ``(3, H, W)``, pixels in [0, 1], that array and the photo's name to the picture.
    progress
        Whether to show a progress bar over the photos; not where ``explain`` shows one for each.

    Raises
    ------
    ImageError
        No photo can be read.
    OutputError
        A file cannot be written.
    """
    import numpy as np

    from captum_vit.data.crop import eval_crop
    from captum_vit.data.images import open_rgb
    from captum_vit.errors import ImageError
    from captum_vit.plots import save_figure
    from captum_vit.progress import progress_bar
    from captum_vit.storage.files import replacing
    from captum_vit.storage.fingerprint import file_sha256, weights_sha256

    crop, parameter = eval_crop(vit), next(vit.parameters())
    seen = vit.preprocessing
    of = [dict(what), address, vit.model_name, weights_sha256(vit.model), seen.size, seen.mean, seen.std]
    done: list[tuple[Path, Path, float]] = []
    skipped: list[str] = []
    kept = console.keeping(f"the photos that were finished are in {out}")
    with kept, progress_bar("Explaining photos", len(photos), disable=not progress) as advance:
        for path, name in zip(photos, distinct_names(photos), strict=True):
            try:
                pixels = crop(open_rgb(path))
            except ImageError as error:
                skipped.append(str(error))
            else:
                images = vit.preprocessing.normalize(pixels[None].to(parameter.device, parameter.dtype))
                cells = vit.patch_map(images, address)[0]
                values = explain(images, cells).float().cpu()
                content = [*of, file_sha256(path)]
                mark = mark_of(content)
                picture = place(out, f"{name}-{ending}", (".png", ".npy"), mark, checksum(content)[:SUFFIX])
                with replacing(picture.with_suffix(".npy")) as partial:
                    np.save(partial, values.numpy())
                    # The picture comes first, as it is what is marked.
                    save_figure(draw(pixels, values, path.name), picture, dpi=150, mark=mark)
                done.append((path, picture, float(cells.mean())))
            advance(1)
    if not done:
        raise ImageError(f"none of {len(photos)} files can be read as an image; {skipped[0]}")
    for reason in skipped:
        console.warn(f"skipped: {reason}")
    console.stdout().print(f"[bold]{escape(address)}[/] of {escape(model)}")
    for path, picture, activation in done:
        files = f"[green]{escape(shown(picture))}[/] and .npy"
        console.stdout().print(f"  {escape(shown(path.name))}  activation {activation:.3g}  {files}")


def distinct_names(photos: Sequence[Path]) -> list[str]:
    """The photos' names without folder and suffix, numbered where several are the same."""
    # Names that are no text would be those of files that few programs open.
    return list(
        distinct([cut(path.stem) if shown(path.stem) == path.stem else file_name(shown(path.stem)) for path in photos])
    )
