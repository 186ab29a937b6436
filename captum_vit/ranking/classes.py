"""The classes that excite a unit most: how many of its best images are of each, beside what chance would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, lgamma

from captum_vit.errors import LabelError
from captum_vit.ranking.result import TopImages


@dataclass(frozen=True)
class TopClass:
    """A class that some of a unit's best images are of.

    Attributes
    ----------
    label
        Its name.
    count
        How many of the best images are of it.
    enrichment
        That, over what images drawn at random would give on average: 1 is chance.
    p_value
        Probability that as many or more are of it among as many images drawn at random without replacement
        (hypergeometric, one-sided). Of one class: where many are looked at, multiply by their number (Bonferroni).
    """

    label: str
    count: int
    enrichment: float
    p_value: float


def top_classes(top: TopImages, address: str, labels: Sequence[str]) -> tuple[TopClass, ...]:
    """The classes of the images that excite a unit most, or that it is most relevant to.

    Parameters
    ----------
    top
        The ranking.
    address
        ``"site:unit"``.
    labels
        The label of each image, by its position in the dataset that was ranked;
        :func:`captum_vit.data.labels.labels_of` finds them.

    Returns
    -------
    tuple of TopClass
        Most images first; of as many, the rarer class first.

    Raises
    ------
    AddressError
        The address is malformed, or the site or unit was not part of the pass.
    LabelError
        There are not as many labels as the dataset has positions.
    """
    if len(labels) != top.positions:
        raise LabelError(
            f"there are {len(labels)} labels and the dataset that was ranked has {top.positions} images; give one for "
            "each, in its order"
        )
    return count_classes([labels[image.index] for image in top.best(address)], Counter(labels))


def count_classes(best: Iterable[str], all_images: Mapping[str, int]) -> tuple[TopClass, ...]:
    """The classes of some images, most images first; of as many, the rarer class first, then by name.

    Parameters
    ----------
    best
        The label of each.
    all_images
        How many images there are of each class, those among them.
    """
    counts, images = Counter(best), sum(all_images.values())
    drawn = counts.total()
    found = [
        TopClass(
            label,
            count,
            count / drawn * images / all_images[label],
            _at_least(count, drawn, all_images[label], images),
        )
        for label, count in counts.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.count, -each.enrichment, each.label)))


def _at_least(count: int, drawn: int, of_class: int, images: int) -> float:
    """Probability that ``count`` or more of ``drawn`` images, of ``images`` in all, are among ``of_class``."""
    most = min(drawn, of_class)
    ways = (
        _log_choose(of_class, number) + _log_choose(images - of_class, drawn - number)
        for number in range(count, most + 1)
        if drawn - number <= images - of_class
    )
    total = _log_choose(images, drawn)
    return min(1.0, sum(exp(way - total) for way in ways))


def _log_choose(things: int, chosen: int) -> float:
    return lgamma(things + 1) - lgamma(chosen + 1) - lgamma(things - chosen + 1)
