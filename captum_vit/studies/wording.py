"""Images of words: a CLIP tells which of several texts is nearest to an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms import functional as transforms

from captum_vit.checks import some, whole_number
from captum_vit.data.images import open_rgb
from captum_vit.errors import StudyError
from captum_vit.studies.passes import measure_images

if TYPE_CHECKING:
    from captum_vit.atlas.naming.clip import Clip

TEMPLATE = "a photo of {}"
# The label of images that are nearest to a text that says nothing.
NONE, EMPTY = "none of the words", "a photo"


def label_by_words(
    clip: Clip, files: Sequence[str], words: Sequence[str], *, batch_size: int = 32, progress: bool = True
) -> dict[str, str]:
    """Label images by the word whose text, "a photo of ...", a CLIP places nearest to them.

    Whether the labels are right is as good a question as the CLIP is good: look at some images of each.

    Parameters
    ----------
    clip
        From :func:`captum_vit.atlas.naming.clip.load_clip`, or anything that has its methods.
    files
        Image files.
    words
        Words or phrases.
    batch_size
        Images that the CLIP sees at a time.
    progress
        Whether to show a bar.

    Returns
    -------
    dict
        The word of each file, or ``NONE`` of those that are nearest to "a photo" or cannot be read, which the study
        will say.

    Raises
    ------
    StudyError
        There is no word.
    """
    words = [str(word) for word in some("words", words, '["music", "a crowd"]', StudyError)]
    whole_number("batch_size", batch_size, error=StudyError)
    texts = [TEMPLATE.format(word) for word in words] + [EMPTY]
    with torch.inference_mode():
        directions = normalize(clip.encode_texts(texts).float(), dim=1)

    def nearest(pixels: Tensor, of_files: Sequence[str]) -> dict[str, Tensor]:
        embeddings = normalize(clip.encode_images(pixels.to(clip.device)).float(), dim=1)
        return {"nearest": (embeddings @ directions.T.to(embeddings)).argmax(1)}

    found = measure_images(
        files,
        lambda file: _middle(file, clip.size),
        nearest,
        title="Asking the CLIP",
        batch_size=batch_size,
        progress=progress,
    )
    names = [*words, NONE]
    places = found.values["nearest"].tolist() if found.used else []
    nearest_of = dict(zip(found.used, places, strict=True))
    return {file: names[nearest_of.get(file, -1)] for file in files}


def _middle(file: str, size: tuple[int, int]) -> Tensor:
    """The middle of a photo at a size, ``(3, *size)``, pixels in [0, 1]."""
    photo = open_rgb(file)
    factor = max(size[0] / photo.height, size[1] / photo.width)
    sides = [max(size[0], round(factor * photo.height)), max(size[1], round(factor * photo.width))]
    resized = transforms.resize(photo, sides, transforms.InterpolationMode.BICUBIC)
    pixels: Tensor = transforms.to_tensor(transforms.center_crop(resized, list(size)))
    return pixels
