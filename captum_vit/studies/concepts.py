"""The study of concepts: the units whose activation tells the images of a concept from others best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from captum_vit.checks import shortly, some, whole_number
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import find_images, open_rgb
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.ranking.measure import ACTIVATION, find_reduction
from captum_vit.ranking.measure import measure as measuring
from captum_vit.studies.classifier import split
from captum_vit.studies.drawing import numbers, panels
from captum_vit.studies.keeping import Kept, files_sha256
from captum_vit.studies.measuring import check_asked, labels_of
from captum_vit.studies.passes import Measured, measure_images
from captum_vit.studies.sampling import choose
from captum_vit.studies.study import Row, Study, with_interval
from captum_vit.studies.telling import Halves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUC, CHOSEN, CHANCE, P = "AUC", "AUC where chosen", "best by chance", "p"
# Of a concept, in each half.
FEWEST = 2
TOO_FEW = f"one of fewer than {2 * FEWEST} images of its folder"
# The label of images that are no concept's. No folder has this name.
REST = "/"
# What concepts are told from, in the settings.
OTHERS, GIVEN = "other concepts", "given"
# Concepts that a picture shows.
_MOST = 30


def concepts(
    vit: AdaptedModel,
    images: str | Path | Mapping[str, str],
    *,
    name: str | None = None,
    only: Sequence[str] | None = None,
    rest: str | Path | Sequence[str | Path] | None = None,
    units: int = 5,
    reduction: str = "mean",
    limit: int = 200,
    permutations: int = 500,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    keep: str | Path | None = None,
) -> Study:
    """The units that tell each concept's images from the rest best, chosen on half of the images, tested on the other.

    Ghiasi et al. (2022, arXiv 2212.06727, Fig. 2) found units of CLIP that answer to "before and after", "music" or
    "morbidity" by looking at the photos that excite them most. Here photos of a concept are given, and units found.

    Parameters
    ----------
    vit
        The adapted model; any of its kinds of sites.
    images
        A folder with a folder for each concept, or files and what they are of
        (:func:`captum_vit.studies.label_by_words` tells that by words).
    name
        What the table calls the model; its class when not given.
    only
        The concepts to look at; all when not given. The others' images still belong to the rest.
    rest
        Folder or files of images that are not of the concepts, which each of them is told from; the images of all
        other concepts when not given.
    units
        How many units to name for each concept.
    reduction
        What an image's activation is: ``"mean"`` over the patches, or ``"max"``, as for :func:`captum_vit.top_images`.
    limit
        Images of each folder, at most; drawn by the seed.
    permutations
        How often labels are dealt out at random to tell what chance gives.
    seed
        Draws the images, the halves, the permutations and the bootstrap.
    batch_size
        Images in a forward pass.
    progress
        Whether to show a bar.
    keep
        Folder of results, as for :func:`captum_vit.studies.frequency`.

    Returns
    -------
    Study
        Of each concept, a row for each of its best units. ``AUC``: the probability that an image of the concept excites
        the unit more than another image does, on the half of the images that the unit was not chosen on; 0.5 is chance.
        ``AUC where chosen``: the same on the other half, which is too good, as the best of many. ``best by chance``:
        what the best of all units comes to there in one of twenty deals of the labels. ``p``: the share of deals in
        which some unit is as good as this one, of all units of the model together; of one concept: where many are
        looked at, multiply by their number.

    Raises
    ------
    StudyError
        An argument means nothing, there is no such concept, or there are not four images of one and of the rest.
    RankingError
        There is no such reduction.
    LabelError
        An image is in no folder that is named after its concept.
    """
    check_asked(vit, batch_size)
    for argument, number in (("units", units), ("limit", limit), ("permutations", permutations)):
        whole_number(argument, number, error=StudyError)
    reduce = find_reduction(reduction)
    given = dict(labels_of(images))
    wanted = _wanted(given, only)
    if rest is not None:
        others = find_images([rest] if isinstance(rest, str | Path) else rest)
        given = {file: label for file, label in given.items() if label in wanted}
        given |= {str(file): REST for file in others if str(file) not in given}
    settings: dict[str, Any] = {
        "only": None if only is None else list(wanted),
        "rest": OTHERS if rest is None else GIVEN,
        "units": units,
        "reduction": reduction,
        "limit": limit,
        "permutations": permutations,
        "seed": seed,
        "images": files_sha256(given),
    }
    kept = Kept(keep, "concepts", vit, name, settings)
    if kept.done is not None:
        return kept.done
    chosen, left_out = _halves(given, limit, seed)

    values: dict[str, Tensor] = {}
    run = measuring(
        vit, ACTIVATION, [site.name for site in vit.sites], lambda site, maps: values.update({site: reduce(maps)})
    )

    def activations(pixels: Tensor, of_files: Sequence[str]) -> dict[str, Tensor]:
        run(vit.preprocessing.normalize(pixels.to(vit.device, vit.dtype)))
        return dict(values)

    crop = eval_crop(vit)
    measured = measure_images(
        list(chosen),
        lambda file: crop(open_rgb(file)),
        activations,
        title="Reading activations",
        batch_size=batch_size,
        progress=progress,
        notes=kept.notes("activations"),
    )
    rows = _rows(vit, measured, given, chosen, wanted, settings)
    facts = {
        "images": len(measured.used),
        "left_out": {**left_out, **measured.left_out},
        "concepts": dict(Counter(given[file] for file in measured.used if given[file] in wanted)),
    }
    parameters = kept.facts["parameters"]
    return kept.finish([{"parameters": parameters, **row} for row in rows], facts, ())


def draw(study: Study) -> Figure:
    """Of each concept the best unit's AUC beside what chance gives, and to the right the depth of its best units."""
    named = list(dict.fromkeys(str(row["concept"]) for row in study.rows))
    best = {concept: max(numbers(_of(study, concept), AUC)) for concept in named}
    shown = sorted(sorted(named, key=lambda concept: -best[concept])[:_MOST], key=named.index)
    figure, (left, right) = panels(2)
    figure.set_size_inches(12, max(3.5, 1.5 + len(shown) * max(0.35, 0.14 * len(study.models))))
    spread = 0.6 / max(len(study.models), 1)
    for place, concept in enumerate(shown):
        for number, model in enumerate(study.models):
            rows = [row for row in _of(study, concept) if row["model"] == model]
            if not rows:
                continue
            height, color = place + (number - (len(study.models) - 1) / 2) * spread, f"C{number}"
            (value,), (low,), (high,) = (numbers(rows[:1], f"{end}{AUC}") for end in ("", "low ", "high "))
            left.plot([low, high], [height, height], color=color)
            left.plot(value, height, "o", color=color, markersize=4, label=None if place else model)
            left.plot(numbers(rows[:1], CHOSEN), [height], "o", color=color, markersize=4, markerfacecolor="white")
            left.plot(numbers(rows[:1], CHANCE), [height], "|", color=color, markersize=8)
            right.plot(numbers(rows, "depth"), [height] * len(rows), "o", color=color, markersize=4, alpha=0.6)
    left.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
    left.set_xlabel(
        "AUC of the best unit on images that it was not chosen on\n(hollow: where it was; | : the best by chance there)"
    )
    right.set_xlabel("depth of the best units, first site to last")
    right.set_xlim(-0.03, 1.03)
    for ax in (left, right):
        ax.set_yticks(range(len(shown)), shown if ax is left else [""] * len(shown))
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = left.get_legend_handles_labels()
    right.legend(handles, labels, frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def _of(study: Study, concept: str) -> list[Row]:
    return [row for row in study.rows if row["concept"] == concept]


def _wanted(given: Mapping[str, str], only: Sequence[str] | None) -> tuple[str, ...]:
    """The concepts to look at, each once."""
    there = tuple(dict.fromkeys(given.values()))
    if only is None:
        return there
    asked = tuple(dict.fromkeys(some("only", only, '["music"]', StudyError)))
    if missing := [concept for concept in asked if concept not in there]:
        raise StudyError(
            f"no images of {shortly(missing[0])}; there are {', '.join(there[:5])}{' …' if there[5:] else ''}. For a "
            "word without a folder of examples, a CLIP has to tell which images are of it: label_by_words, --clip"
        )
    return asked


def _halves(given: Mapping[str, str], limit: int, seed: int) -> tuple[dict[str, bool], dict[str, str]]:
    """Whether each image that is used is one to choose units on, and why the others are not used."""
    of_label: dict[str, list[str]] = {}
    for file, label in given.items():
        of_label.setdefault(label, []).append(file)
    used: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for label, files in of_label.items():
        drawn, others = choose(files, limit, seed)
        left_out |= others
        if len(drawn) < 2 * FEWEST and label != REST:
            left_out |= dict.fromkeys(drawn, TOO_FEW)
        else:
            used |= dict.fromkeys(drawn, label)
    fit, test, alone = split(used, seed)
    halves = {file: file in fit for file in used if file in fit or file in test}
    return halves, {**left_out, **dict.fromkeys(alone, TOO_FEW)}


def _rows(
    vit: AdaptedModel,
    measured: Measured,
    given: Mapping[str, str],
    chosen: Mapping[str, bool],
    wanted: Sequence[str],
    settings: Mapping[str, Any],
) -> list[Row]:
    """The best units of each concept that has images in both halves, and something to be told from."""
    labels = np.array([given[file] for file in measured.used])
    choosing = np.array([chosen[file] for file in measured.used], dtype=bool)
    values = {site.name: measured.values[site.name] for site in vit.sites}
    places = {site.name: number / max(1, len(vit.sites) - 1) for number, site in enumerate(vit.sites)}
    rows: list[Row] = []
    halves: Halves | None = None
    for concept in wanted:
        positive = labels == concept
        told = positive | (labels == REST) if settings["rest"] == GIVEN else np.ones_like(positive)
        counts = [int((part & half).sum()) for part in (positive, told & ~positive) for half in (choosing, ~choosing)]
        if min(counts) < FEWEST:
            continue
        # Without a rest of their own, all concepts are told from each other, on the same images.
        if halves is None or (halves.choosing != (told & choosing)).any():
            halves = Halves(values, told & choosing, told & ~choosing)
        for unit in halves.best(positive, settings["units"], settings["permutations"], settings["seed"]):
            rows.append(
                {
                    "concept": concept,
                    "images": counts[1],
                    "others": counts[3],
                    "unit": f"{unit.site}:{unit.unit}",
                    "depth": places[unit.site],
                    **with_interval(AUC, unit.auc, unit.ends),
                    CHOSEN: unit.chosen,
                    CHANCE: unit.chance,
                    P: unit.p_value,
                }
            )
    if not rows:
        raise StudyError(
            f"a concept needs {2 * FEWEST} images that can be read, and as many to be told from; give a folder of them "
            "for each concept"
        )
    return rows
