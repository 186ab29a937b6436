"""A lexicon: words as directions in a CLIP's space, with what random crops of the same photos give each by chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from torch.nn import functional

from captum_vit.atlas.naming.clip import Clip
from captum_vit.atlas.naming.crops import CROPS, encoded
from captum_vit.atlas.naming.words import TEMPLATES, check_words
from captum_vit.errors import NamingError
from captum_vit.progress import progress_bar
from captum_vit.storage.files import replacing

FORMAT = "captum-vit lexicon 1"

# Sets of random crops for each threshold: its 99th percentile then lies between 20 of them and the rest.
SETS = 2000

_TEXTS_A_BATCH = 256


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words, and by how much the crops of a neuron must be nearer to one than random crops are.

    A neuron's score for a word is the mean similarity of its crops to the word, in standard deviations of what as many
    random crops give. The means over words and over random crops are subtracted on the way, so that no word is near to
    everything. The threshold is exceeded by the best of all words in a share ``1 - quantile`` of random sets of crops.

    Attributes
    ----------
    words
        In the order of the arrays.
    directions
        Embeddings of the words, over the templates, less the mean over words, ``(words, D)``.
    mean, deviation
        Of the similarity of random crops to each word, ``(words,)``.
    thresholds
        For sets of one crop, of two, and so on.
    quantile
        Share of random sets whose best score is at most the threshold.
    clip, clip_sha256
        Name and checksum of the weights of the CLIP.
    """

    words: tuple[str, ...]
    directions: NDArray[np.float32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    quantile: float
    clip: str
    clip_sha256: str

    @classmethod
    def of(
        cls,
        clip: Clip,
        words: Sequence[str],
        crops: Iterable[Sequence[Tensor]],
        *,
        k: int,
        quantile: float = 0.99,
        templates: Sequence[str] = TEMPLATES,
        seed: int = 0,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Lexicon:
        """Ask a CLIP.

        Parameters
        ----------
        clip
            The CLIP.
        words
            Ten or more.
        crops
            Random crops ``(3, *clip.size)``, pixels in [0, 1]: some of each photo, of all as many.
        k
            Crops of a neuron, at most.
        quantile
            Of the best word's score over random sets of crops, to be the threshold.
        templates
            What is said of a word, each with ``{}`` in its place.
        seed
            Of the random sets.
        batch_size
            Crops that the CLIP sees at a time.
        progress
            Whether to show bars, and to say how long they take where that is more than a minute.

        Raises
        ------
        NamingError
            The words are too few, a template has no place for them, the quantile is none, there are no two photos, or
            what the CLIP gives is not finite.
        """
        words = check_words(tuple(words))
        if not 0 < quantile < 1:
            raise NamingError(f"quantile is {quantile}; it must be between 0 and 1, such as 0.99")
        if unfit := [template for template in templates if "{}" not in template]:
            raise NamingError(f'the template "{unfit[0]}" has no {{}} where the word goes')
        directions = _directions(clip, words, templates, progress)
        counts: list[int] = []

        def counted() -> Iterable[Tensor]:
            with _asking("random crops", CROPS, progress) as advance:
                for of_photo in crops:
                    counts.append(len(of_photo))
                    yield from of_photo
                    advance(len(of_photo))

        embeddings = torch.cat([batch.cpu() for batch in encoded(clip, counted(), batch_size)] or [torch.empty(0, 1)])
        if len(counts) < 2 or len(set(counts)) > 1:
            raise NamingError("chance is told from crops of two or more photos, as many of each; give more photos")
        similarity = embeddings @ directions.T
        if not similarity.isfinite().all():
            raise NamingError(f"{clip.name} gives embeddings that are not finite; it may need another number format")
        mean, deviation = similarity.mean(0), similarity.std(0).clamp(min=1e-12)
        thresholds = _thresholds((similarity - mean) / deviation, len(counts), k, quantile, seed)
        return cls(
            words=words,
            directions=directions.numpy(),
            mean=mean.numpy(),
            deviation=deviation.numpy(),
            thresholds=thresholds.numpy(),
            quantile=quantile,
            clip=clip.name,
            clip_sha256=clip.sha256,
        )

    def scores(self, means: Tensor, crops: Tensor) -> Tensor:
        """Scores of neurons for words, ``(N, words)``.

        Parameters
        ----------
        means
            Weighted means of the embeddings of each neuron's crops, ``(N, D)``.
        crops
            How many crops of equal weight would vary as much, ``(N,)``: (Σ weights)² / Σ weights².
        """
        directions, mean, deviation = (
            torch.from_numpy(each).to(means) for each in (self.directions, self.mean, self.deviation)
        )
        return (means @ directions.T - mean) / deviation * crops[:, None].sqrt()

    def threshold(self, crops: float) -> float:
        """The score that chance reaches with so many crops, rounded down."""
        return float(self.thresholds[min(max(int(crops), 1), len(self.thresholds)) - 1])

    def save(self, path: Path) -> Path:
        """Write it; the same lexicon gives the same bytes.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        header = {name: getattr(self, name) for name in ("words", "quantile", "clip", "clip_sha256")}
        arrays = {name: getattr(self, name) for name in ("directions", "mean", "deviation", "thresholds")}
        metadata = {"captum_vit": json.dumps({"format": FORMAT, **header}, sort_keys=True)}
        with replacing(path) as partial:
            partial.write_bytes(save({name: np.ascontiguousarray(each) for name, each in arrays.items()}, metadata))
        return path

    @classmethod
    def load(cls, path: Path) -> Lexicon:
        """Read a saved one.

        Raises
        ------
        NamingError
            The file is missing, damaged, or none.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                header: dict[str, Any] = json.loads((file.metadata() or {})["captum_vit"])
                arrays: dict[str, Any] = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            if header.pop("format") != FORMAT:
                raise ValueError(FORMAT)
            words = tuple(header.pop("words"))
            return cls(words=words, **header, **arrays)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise NamingError(f"{path} is missing, damaged or no lexicon; delete it, and it is made anew") from error


def _asking(what: str, total: int, progress: bool) -> AbstractContextManager[Callable[[int], None]]:
    return progress_bar(f"Asking the CLIP of {what}", total, disable=not progress, foretold=progress)


def _directions(clip: Clip, words: Sequence[str], templates: Sequence[str], progress: bool) -> Tensor:
    texts = [template.replace("{}", word) for word in words for template in templates]
    found = []
    with _asking("words", len(texts), progress) as advance:
        for first in range(0, len(texts), _TEXTS_A_BATCH):
            batch = texts[first : first + _TEXTS_A_BATCH]
            found.append(functional.normalize(clip.encode_texts(batch).float().cpu(), dim=1))
            advance(len(batch))
    embeddings = torch.cat(found)
    of_words = functional.normalize(embeddings.unflatten(0, (len(words), len(templates))).mean(1), dim=1)
    return of_words - of_words.mean(0)


def _thresholds(standardized: Tensor, photos: int, k: int, quantile: float, seed: int) -> Tensor:
    """The quantile of the best word's score over random sets of 1 … k crops, each of another photo."""
    generator = torch.Generator().manual_seed(seed)
    by_photo = standardized.unflatten(0, (photos, -1))
    found = []
    for size in range(1, min(k, photos) + 1):
        chosen = torch.rand(SETS, photos, generator=generator).topk(size).indices
        crop = torch.randint(by_photo.shape[1], (SETS, size), generator=generator)
        best = torch.cat(
            [
                (by_photo[some, its].mean(1) * size**0.5).amax(1)
                for some, its in zip(chosen.split(100), crop.split(100), strict=True)
            ]
        )
        found.append(best.quantile(quantile))
    return torch.stack(found)
