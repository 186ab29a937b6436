"""The classes of a neuron's photos, where each photo is in a folder that is named after its class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captum_vit.atlas.images import FILE
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.tables import reading


@dataclass(frozen=True)
class Labels:
    """The labels of an atlas' images.

    Attributes
    ----------
    column
        Label of each image; None where images have none.
    """

    column: Any

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> Labels:
        """Read them.

        Raises
        ------
        AtlasError
            The list of images is missing or damaged.
        """
        if not manifest.images.labelled:
            return cls(None)
        with reading(folder / FILE) as file:
            return cls(file.read(columns=["label"])["label"])

    def __getitem__(self, image: int) -> str | None:
        """The label of an image."""
        return None if self.column is None else str(self.column[image])

    def counted(self, images: Sequence[int]) -> Mapping[str, Any]:
        """The labels of some images and how many have each, most first, then in alphabetical order."""
        if self.column is None:
            return {}
        counts = Counter(str(self.column[image]) for image in images)
        most = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return {"classes": [label for label, _ in most], "class_counts": [count for _, count in most]}
