"""Names of neurons: the words that are nearest to what excites them, and none that chance would give as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_vit.atlas.naming.clip import Clip
from captum_vit.atlas.naming.crops import encoded
from captum_vit.atlas.naming.lexicon import Lexicon

# Words that are kept of a neuron, at most.
MOST = 5


@dataclass(frozen=True)
class Name:
    """What a neuron is called.

    Attributes
    ----------
    words
        Those whose score is above the threshold, best first, with their scores; at most five, and often none.
    threshold
        The score that the best word of random crops exceeds in one case of a hundred, or what was asked for; None where
        nothing excites the neuron.
    """

    words: tuple[tuple[str, float], ...]
    threshold: float | None

    @property
    def word(self) -> str | None:
        """The nearest word; None where none is above the threshold."""
        return self.words[0][0] if self.words else None

    @property
    def score(self) -> float | None:
        """Its score: by how many standard deviations the crops are nearer to it than random ones."""
        return self.words[0][1] if self.words else None


def names(
    clip: Clip,
    lexicon: Lexicon,
    neurons: Iterable[Sequence[tuple[Tensor, float]]],
    *,
    batch_size: int = 64,
) -> Iterator[Name]:
    """Name neurons, one after the other; no more than a batch of crops is in memory.

    Parameters
    ----------
    clip
        The CLIP that the lexicon is of.
    lexicon
        The words, and what chance gives.
    neurons
        Of each neuron the crops ``(3, *clip.size)`` that excite it, pixels in [0, 1], and its activation there. Those
        that are not positive do not count.
    batch_size
        Crops that the CLIP sees at a time.

    Yields
    ------
    Name
        Of each neuron, in order.
    """
    weights: list[list[float]] = []

    def crops() -> Iterator[Tensor]:
        for neuron in neurons:
            counting = [(crop, weight) for crop, weight in neuron if weight > 0]
            weights.append([weight for _, weight in counting])
            yield from (crop for crop, _ in counting)

    told = 0
    waiting: list[Tensor] = []
    for batch in encoded(clip, crops(), batch_size):
        waiting += batch.cpu().unbind()
        # The last neuron that was asked for its crops may have more.
        while told < len(weights) - 1:
            taken, waiting = waiting[: len(weights[told])], waiting[len(weights[told]) :]
            yield _name(lexicon, taken, weights[told])
            told += 1
    for of_neuron in weights[told:]:
        taken, waiting = waiting[: len(of_neuron)], waiting[len(of_neuron) :]
        yield _name(lexicon, taken, of_neuron)


def _name(lexicon: Lexicon, embeddings: Sequence[Tensor], weights: Sequence[float]) -> Name:
    if not weights:
        return Name((), None)
    shares = torch.tensor(weights, dtype=torch.float64)
    shares = shares / shares.sum()
    crops = 1 / shares.square().sum()
    mean = (torch.stack(list(embeddings)).double() * shares[:, None]).sum(0)
    scores = lexicon.scores(mean[None], crops[None])[0]
    threshold = lexicon.threshold(float(crops) + 1e-9)
    best = scores.topk(min(MOST, len(scores)))
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Name(tuple((lexicon.words[place], score) for place, score in found if score > threshold), threshold)
