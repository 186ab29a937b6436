"""The study of frequencies: how much of its accuracy a model keeps on low-pass and high-pass filtered images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.classifier import Classifier
from captum_vit.studies.drawing import finish, panels, percent
from captum_vit.studies.keeping import Kept
from captum_vit.studies.measuring import WHOLE, Classification, Scored, accuracies, check_asked, columns_of, labels_of
from captum_vit.studies.spectrum import energy_kept, high_pass, low_pass
from captum_vit.studies.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOW, HIGH = "low-pass", "high-pass"
FILTERS = {LOW: low_pass, HIGH: high_pass}
RADII = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def frequency(
    vit: AdaptedModel,
    images: str | Path | Mapping[str, str],
    *,
    name: str | None = None,
    radii: Sequence[float] = RADII,
    classifier: str = "auto",
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    keep: str | Path | None = None,
) -> Study:
    """Accuracy on images without their high, or their low frequencies (Ghiasi et al. 2022, section on frequencies).

    Parameters
    ----------
    vit
        The adapted model.
    images
        A folder with a folder for each class, or files and their labels.
    name
        What the table calls the model; its class when not given.
    radii
        Where the filters cut, in cycles per shorter side of the part of the image that the model sees: models of
        different input sizes then get the same content. The low-pass keeps frequencies up to the radius, and the
        high-pass those beyond it and the mean colour.
    classifier
        ``"own"``, the model's head; ``"probe"``, a linear one that is fitted on half of the images, unfiltered;
        ``"neighbours"``, the vote of the 20 nearest images of that half; or ``"auto"``, the head if it knows the
        folder's labels, or else a probe.
    seed
        Draws the halves and the bootstrap.
    batch_size
        Images in a forward pass.
    progress
        Whether to show a bar.
    keep
        Folder of results. The model's table is added to the study's in it, is not measured again if it is there with
        the same settings, images and weights, and a pass that was interrupted goes on.

    Returns
    -------
    Study
        A row for the unfiltered images, and one for each filter and radius.

    Raises
    ------
    StudyError
        A radius is not a positive number, no image can be used, there is no classifier, or ``keep`` has the study with
        other settings.
    LabelError
        An image is in no folder that is named after its class.
    """
    if not radii or not all(isinstance(radius, int | float) and 0 < radius < float("inf") for radius in radii):
        raise StudyError(f"radii={list(radii)}; give positive numbers of cycles per shorter side, such as 4 8 16")
    cuts = {f"{kind} {radius:g}": (kind, float(radius)) for kind in FILTERS for radius in sorted(set(radii))}

    check_asked(vit, batch_size)
    asked = Classification(vit, labels_of(images), classifier, seed, batch_size, progress)
    kept = Kept(keep, "frequency", vit, name, {"radii": sorted(set(map(float, radii))), **asked.settings})
    if kept.done is not None:
        return kept.done
    crop = eval_crop(vit)

    def scored(pixels: Tensor, found: Classifier) -> Iterator[Scored]:
        def scores(view: Tensor) -> Tensor:
            return found.scores(vit.preprocessing.normalize(view.to(vit.dtype)))

        yield WHOLE, scores(pixels), energy_kept(pixels, pixels)
        for cut, (kind, radius) in cuts.items():
            filtered = FILTERS[kind](pixels, radius)
            yield cut, scores(filtered), energy_kept(filtered, pixels)

    hits = asked.measure(lambda file: crop(open_rgb(file)), scored, kept)
    rows: list[Row] = [
        {
            "parameters": kept.facts["parameters"],
            "filter": kind,
            "radius": radius,
            "energy kept": float(hits.extra[cut].mean()),
            **accuracies(hits, cut, seed),
        }
        for cut, (kind, radius) in {WHOLE: ("none", None), **cuts}.items()
    ]
    return kept.finish(rows, hits.facts, ("energy kept", *columns_of()))


def draw(study: Study) -> Figure:
    """The share of its accuracy that each model keeps, by radius: low-pass to the left, high-pass to the right."""
    figure, axes = panels(2, sharey=True)
    for ax, kind in zip(axes, FILTERS, strict=True):
        for number, model in enumerate(study.models):
            rows = [row for row in study.rows if row["model"] == model and row["filter"] == kind]
            radii = [row["radius"] for row in rows]
            ax.plot(radii, percent(rows, "top-1 of full"), marker="o", color=f"C{number}", label=model)
            ends = percent(rows, "low top-1 of full"), percent(rows, "high top-1 of full")
            ax.fill_between(radii, *ends, color=f"C{number}", alpha=0.2, linewidth=0)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(f"radius of the {kind}, cycles per shorter side")
    finish(axes, "% of the unfiltered images' top-1")
    return figure
