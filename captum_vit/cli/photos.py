"""What the commands on single photos share: each is read, explained and drawn by itself, and bad ones are reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from captum_vit.cli import console
from captum_vit.cli.folders import find_images, images_option
from captum_vit.errors import ImageError
from captum_vit.storage.files import replacing, shown
from captum_vit.storage.marks import SUFFIX, checksum, cut, distinct, file_name, mark_of, place

# Whatever takes seconds to import (torch, timm, Lucent, matplotlib) is imported in the function that needs it.
if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from captum_vit.probes.adapted import AdaptedModel
    from captum_vit.probes.address import Address

Photos = Annotated[list[Path] | None, images_option("They must be given.")]

# More neurons than these are told as a number, and not one by one.
MOST_TOLD = 16


def out_option(otherwise: str) -> Any:
    """The option of a folder to write to, with the one that is taken when it is not given."""
    return typer.Option(
        "--out",
        metavar="PATH",
        help=f"Folder to write to, made if it is not there; {otherwise} here when not given.",
        show_default=False,
    )


@dataclass(frozen=True)
class Explanation:
    """What is computed of a neuron and a photo, and how it is drawn.

    Attributes
    ----------
    what
        What the files hold, besides the model, the neuron and the photo that they are of; texts and numbers.
    ending
        What follows photo and neuron in the names of files.
    values
        From the neuron, images ``(1, 3, H, W)`` as the model expects them, and the neuron's patch map
        ``(rows, columns)`` on them, to the array to save.
    draw
        From the neuron, the crop ``(3, H, W)``, pixels in [0, 1], that array and the photo's name to the picture.
    shows_progress
        Whether ``values`` shows a progress bar of its own, so that none is shown over the photos.
    """

    what: Mapping[str, Any]
    ending: str
    values: Callable[[Address, Tensor, Tensor], Tensor]
    draw: Callable[[Address, Tensor, Tensor, str], Figure]
    shows_progress: bool = False


def find_photos(photos: Sequence[Path]) -> tuple[Path, ...]:
    """The files of photos that were named.

    Raises
    ------
    ImageError
        There are none.
    """
    if not photos:
        raise ImageError("no photo is named; give photos, or folders of them, with --images PATH")
    return find_images(photos)


def explain_photos(
    vit: AdaptedModel, model: str, neurons: Sequence[Address], photos: Sequence[Path], out: Path, how: Explanation
) -> None:
    """Write an array and a picture for each photo and neuron, as soon as it is done, and print where they are.

    Parameters
    ----------
    vit
        The adapted model.
    model, neurons
        The model's name and the neurons, to print with their activations.
    photos
        Image files; those that cannot be read are reported at the end.
    out
        Folder of the files. Files of something else stay; where one has the name of one of these, a checksum is added
        to that.
    how
        What they hold.

    Raises
    ------
    ImageError
        No photo can be read.
    OutputError
        A file cannot be written.
    """
    import torch

    from captum_vit.data import images as reading
    from captum_vit.data.crop import eval_crop
    from captum_vit.progress import progress_bar
    from captum_vit.storage.fingerprint import file_sha256

    crop, parameter = eval_crop(vit), next(vit.parameters())
    files = _Files(vit, out, how)
    sites = {address.site for address in neurons}
    done: dict[Address, list[str]] = {address: [] for address in neurons}
    skipped: list[str] = []
    kept = console.keeping(f"the photos that were finished are in {out}")
    total = len(photos) * len(neurons)
    with kept, progress_bar("Explaining photos", total, disable=how.shows_progress, foretold=True) as advance:
        for path, name in zip(photos, distinct_names(photos), strict=True):
            try:
                pixels = crop(reading.open_rgb(path))
            except ImageError as error:
                skipped.append(str(error))
                advance(len(neurons))
                continue
            images = vit.preprocessing.normalize(pixels[None].to(parameter.device, parameter.dtype))
            with torch.no_grad(), vit.collect(sites) as maps:
                vit(images)
            for address in neurons:
                cells = maps[address.site][0, address.unit]
                values = how.values(address, images, cells).float().cpu()
                picture = files.write(address, path, f"{name}-{address.file_name}", pixels, values, file_sha256(path))
                done[address].append(
                    f"  {escape(shown(path.name))}  activation {float(cells.mean()):.3g}  "
                    f"[green]{escape(shown(picture))}[/] and .npy"
                )
                advance(1)
    if len(skipped) == len(photos):
        raise ImageError(f"none of {len(photos)} files can be read as an image; {skipped[0]}")
    for reason in skipped:
        console.warn(f"skipped: {reason}")
    _report(model, done, out)


class _Files:
    """The files of explanations, each marked with what is in it."""

    def __init__(self, vit: AdaptedModel, out: Path, how: Explanation) -> None:
        from captum_vit.storage.fingerprint import weights_sha256

        seen = vit.preprocessing
        self.of = [vit.model_name, weights_sha256(vit.model), seen.size, seen.mean, seen.std]
        self.out, self.how = out, how

    def write(self, address: Address, photo: Path, stem: str, pixels: Tensor, values: Tensor, sha256: str) -> Path:
        """Write the array and the picture of a neuron and a photo; gives the picture's path."""
        import numpy as np

        from captum_vit.plots import save_figure

        content = [dict(self.how.what), address, *self.of, sha256]
        mark = mark_of(content)
        picture = place(self.out, f"{stem}{self.how.ending}", (".png", ".npy"), mark, checksum(content)[:SUFFIX])
        with replacing(picture.with_suffix(".npy")) as partial:
            np.save(partial, values.numpy())
            # The picture comes first, as it is what is marked.
            save_figure(self.how.draw(address, pixels, values, photo.name), picture, dpi=150, mark=mark)
        return picture


def _report(model: str, done: Mapping[Address, Sequence[str]], out: Path) -> None:
    """Print each neuron's photos, or of many neurons how many there are and where."""
    stdout = console.stdout()
    if len(done) > MOST_TOLD:
        stdout.print(f"[bold]{len(done)} neurons[/] of {escape(model)}")
        pictures = sum(map(len, done.values()))
        stdout.print(f"  {pictures} pictures, and an array (.npy) beside each  [green]{escape(shown(out))}[/]")
        return
    for address, lines in done.items():
        stdout.print(f"[bold]{escape(address)}[/] of {escape(model)}")
        for line in lines:
            stdout.print(line)


def distinct_names(photos: Sequence[Path]) -> list[str]:
    """The photos' names without folder and suffix, numbered where several are the same."""
    # Names that are no text would be those of files that few programs open.
    return list(
        distinct([cut(path.stem) if shown(path.stem) == path.stem else file_name(shown(path.stem)) for path in photos])
    )
