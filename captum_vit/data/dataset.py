"""Image files as a PyTorch dataset, and the files behind datasets of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.preprocessing import Preprocessing


class ImageFiles(Dataset[Tensor]):
    """Image files as a model sees them: timm's evaluation crop, normalized.

    Parameters
    ----------
    files
        Their paths.
    crop
        From an RGB image to the part that the model sees, ``(3, H, W)``, pixels in [0, 1].
    preprocessing
        The model's.
    """

    def __init__(
        self, files: Sequence[str | Path], crop: Callable[[Image.Image], Tensor], preprocessing: Preprocessing
    ) -> None:
        self.files = tuple(map(str, files))
        self.crop = crop
        self.preprocessing = preprocessing

    @classmethod
    def of(cls, files: Sequence[str | Path], vit: AdaptedModel) -> ImageFiles:
        """The files as ``vit`` sees them.

        Raises
        ------
        ChannelsError
            The model takes other channels than red, green and blue.
        """
        vit.check_takes_photos()
        return cls(files, eval_crop(vit), vit.preprocessing)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """One image, normalized, ``(3, H, W)``.

        Raises
        ------
        ImageError
            The file is missing, empty, truncated or not an image.
        """
        return self.preprocessing.normalize(self.crop(open_rgb(self.files[index])))


def files_of(dataset: Any) -> Sequence[str] | None:
    """The file of each of a dataset's images, if it tells them: as :class:`ImageFiles` or torchvision's folders do."""
    if isinstance(dataset, Subset):
        files = files_of(dataset.dataset)
        return None if files is None else [files[index] for index in dataset.indices]
    for name in ("files", "samples", "imgs"):
        listed = getattr(dataset, name, None)
        if isinstance(listed, Sequence) and len(listed) == len(dataset):
            first = [entry[0] if isinstance(entry, tuple | list) and entry else entry for entry in listed]
            if all(isinstance(entry, str | Path) for entry in first):
                return [str(entry) for entry in first]
    return None
