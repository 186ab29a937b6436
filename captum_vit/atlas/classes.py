"""The classes of a neuron's photos, where each photo is in a folder that is named after its class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from captum_vit.atlas.images import FILE
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.tables import reading
from captum_vit.ranking.classes import count_classes


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
        """The labels of some images as columns of the table, beside what chance would give; most images first."""
        if self.column is None:
            return {}
        found = count_classes([str(self.column[image]) for image in images], self._totals)
        return {
            "classes": [each.label for each in found],
            "class_counts": [each.count for each in found],
            "class_enrichments": [each.enrichment for each in found],
            "class_p_values": [each.p_value for each in found],
        }

    @cached_property
    def _totals(self) -> Counter[str]:
        """How many images there are of each label."""
        return Counter(map(str, self.column.to_pylist()))
