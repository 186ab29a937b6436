"""What images are of: labels from the folders they are in, from the dataset, or from a table in a text file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from captum_vit.data.dataset import files_of
from captum_vit.data.images import find_images
from captum_vit.errors import LabelError


def labels_of(dataset: Any) -> tuple[str, ...]:
    """The label of each image of a dataset, in order.

    Parameters
    ----------
    dataset
        A dataset as torchvision's are, with ``targets`` (or ``labels``) and perhaps ``classes``, their names, or a
        ``Subset`` of one; or a folder, or paths of image files, each in a folder that is named after its class, as
        torchvision's ``ImageFolder`` wants them.

    Raises
    ------
    LabelError
        The dataset tells no labels, or an image is in no folder of its own class.
    ImageError
        There is no image in the folder.
    """
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return tuple(labels[index] for index in dataset.indices)
    if isinstance(dataset, str | Path):
        return tuple(labelled_files(dataset).values())
    for name in ("targets", "labels", "_labels"):
        targets = getattr(dataset, name, None)
        if targets is not None and hasattr(dataset, "__len__") and len(targets) == len(dataset):
            return _named([int(target) for target in targets], getattr(dataset, "classes", None))
    is_paths = isinstance(dataset, Sequence) and all(isinstance(path, str | Path) for path in dataset)
    files = list(map(str, dataset)) if is_paths else files_of(dataset)
    if not files:
        raise LabelError(
            f"a {type(dataset).__name__} tells no labels; give a dataset with targets, files in folders that are named "
            "after their classes, or a sequence of labels"
        )
    return _folders(list(files), None)


def labelled_files(folder: str | Path) -> dict[str, str]:
    """The image files in the folders of a folder, and their labels, which those are named after.

    Raises
    ------
    LabelError
        An image is in no folder of its own class.
    ImageError
        There is no image in the folder.
    """
    files = list(map(str, find_images([folder])))
    return dict(zip(files, _folders(files, Path(folder)), strict=True))


def read_labels(path: str | Path, files: Sequence[str | Path]) -> tuple[str, ...]:
    """The label of each file, from a text file of comma-separated values: a file and its label a line.

    Parameters
    ----------
    path
        The table, without a heading or with the heading ``file,label``; files as they are named there relative to the
        table's folder, or by their names alone if these are all different.
    files
        The image files.

    Raises
    ------
    LabelError
        The table cannot be read, a line has no label, or a file is not in it.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [row for row in csv.reader(lines) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} cannot be read as a table: {getattr(error, 'strerror', None) or error}") from error
    if rows and [cell.strip().lower() for cell in rows[0]] == ["file", "label"]:
        rows = rows[1:]
    if short := [row for row in rows if len(row) < 2]:
        raise LabelError(f'{path} has the line "{",".join(short[0])}" without a label; write FILE,LABEL')
    found = {str(path.parent / file.strip()): label.strip() for file, label, *_ in rows}
    names = [Path(file).name for file, *_ in rows]
    if len(set(names)) == len(names):
        found |= {name: label.strip() for name, (_, label, *_) in zip(names, rows, strict=True)}
    labels = [found.get(str(file), found.get(Path(file).name)) for file in files]
    if None in labels:
        raise LabelError(f"{path} has no label for {files[labels.index(None)]}; add its line")
    return tuple(str(label) for label in labels)


def _named(targets: Sequence[int], names: Any) -> tuple[str, ...]:
    if isinstance(names, Sequence) and len(names) > max(targets, default=0):
        # Some of torchvision's have several names for a class.
        shown = [name if isinstance(name, str) else ", ".join(map(str, name)) for name in names]
        return tuple(shown[target] for target in targets)
    return tuple(map(str, targets))


def _folders(files: Sequence[str], top: Path | None) -> tuple[str, ...]:
    """The folder of each file, below the folder that was searched."""
    for file in files:
        if top is not None and Path(file).parent == top:
            raise LabelError(f"{file} is in no folder that is named after its class; put it in one, or give its label")
    return tuple(Path(file).parent.name for file in files)
