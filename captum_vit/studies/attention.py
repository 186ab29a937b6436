"""The study of attention: renders of queries, keys and values beside those of feed-forward blocks, scored alike."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from captum_vit.cards.agreement import STRONGEST, agreements
from captum_vit.checks import check_adapted, whole_number
from captum_vit.data.search import find_images
from captum_vit.errors import StudyError
from captum_vit.optvis.plan import PlanSettings, RenderPlan
from captum_vit.optvis.results import Renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.address import Address
from captum_vit.probes.kinds import OUTPUT, PARTS
from captum_vit.probes.site import Site
from captum_vit.ranking.result import TopImages
from captum_vit.ranking.search import top_images
from captum_vit.studies.drawing import finish, numbers, panels
from captum_vit.studies.keeping import Kept, files_sha256
from captum_vit.studies.rendered import (
    ALL_SITES,
    FREQUENCY,
    PROGRESSION,
    SCALE,
    Columns,
    Measured,
    Task,
    counted,
    mean_column,
    measure_all,
    no_progression,
    progression,
    render_all,
    renders_folder,
    settings_of,
    structure,
)
from captum_vit.studies.sampling import choose
from captum_vit.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN = "hidden"
# In the order of the rows: attention's channels, then the feed-forward block's.
KINDS = (*PARTS, HIDDEN, OUTPUT)
DEPTHS = ("first", "middle", "last")
ABOVE, STEADY, AGREEMENT = "above photos", "above photos, worst view", "agreement"
DEFAULT_UNITS, DEFAULT_IMAGES = 8, 256


@dataclass(frozen=True)
class Scored:
    """A neuron's render beside the photos that excite it.

    Attributes
    ----------
    measured
        The render and its structure.
    strongest
        Activation of the strongest photo, above zero.
    agreement
        Area under the ROC curve; None where that cannot be told.
    """

    measured: Measured
    strongest: float
    agreement: float | None

    @property
    def above(self) -> bool:
        """Whether the render excites the neuron more than any photo."""
        return self.measured.render.problem is None and self.measured.render.activation > self.strongest

    @property
    def steadily_above(self) -> bool:
        """The same of the worst of six views of the render."""
        return self.above and self.measured.render.worst > self.strongest

    @property
    def record(self) -> dict[str, Any]:
        """What a study's file says of it."""
        worst = self.measured.render.worst
        return {
            **self.measured.record,
            "worst view": None if worst != worst else worst,
            "strongest photo": self.strongest,
            AGREEMENT: self.agreement,
        }


def attention(
    vit: AdaptedModel,
    images: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    units: int = DEFAULT_UNITS,
    limit: int = DEFAULT_IMAGES,
    batch_size: int = 8,
    progress: bool = True,
    keep: str | Path | None = None,
    **settings: Unpack[PlanSettings],
) -> Study:
    """Render queries, keys, values, hidden neurons and outputs of three blocks alike, and score the renders.

    Ghiasi et al. (2022, arXiv 2212.06727) find that queries, keys and values give high-frequency, adversarial pictures
    without a progression through depth (Fig. 4), and that of the feed-forward block the hidden neurons give the
    interpretable ones (Fig. 5).

    Parameters
    ----------
    vit
        The model, adapted with ``sites="all"``, or with those of these kinds that it has.
    images
        Photos: a folder, searched with its subfolders, or files. They choose the neurons, and the renders are scored
        beside them.
    name
        What the table calls the model; its class when not given.
    units
        Neurons of each kind at each block, drawn by the seed among those that some photo excites: whose mean activation
        over the patches is above zero.
    limit
        Photos to take, at most; drawn by the seed.
    batch_size
        Neurons to render at a time; photos pass four times as many at a time.
    progress
        Whether to show a bar, and to say before how long it takes, if that is more than a minute.
    keep
        Folder of results, as for :func:`captum_vit.studies.frequency`. Renders are kept below it, as
        :func:`captum_vit.optvis.folder.render_into` writes them, so that what was interrupted goes on.
    **settings
        ``recipe``, ``steps``, ``size``, ``canvas``, ``seed``, ``dtype``, as for :func:`captum_vit.render`.

    Returns
    -------
    Study
        For each kind a row for the first block that has it, one for that half-way, one for the last, and one for all
        three. ``above photos`` is the share of neurons that the render excites more than the strongest photo does,
        ``above photos, worst view`` at the worst of its six views too; renders that mean nothing count as not above.
        ``frequency``, ``scale``, ``finer with depth`` and ``larger with depth`` are as in
        :func:`captum_vit.studies.depth`. ``agreement`` is the mean of the renders' agreement with their neurons'
        strongest photos (:mod:`captum_vit.cards.agreement`); 0.5 is chance.

    Raises
    ------
    StudyError
        An argument means nothing, the model was adapted without sites of attention and of feed-forward blocks to be
        compared, no photo excites any unit, or ``keep`` has the study with other settings.
    ImageError
        No photo can be read.
    RecipeError, PlanError
        As for :func:`captum_vit.render`.
    """
    check_adapted(vit)
    for argument, number in (("units", units), ("limit", limit), ("batch_size", batch_size)):
        whole_number(argument, number, error=StudyError)
    chosen = three_blocks(vit.sites)
    found = [str(file) for file in find_images([images] if isinstance(images, str | Path) else images)]
    plan = RenderPlan.of(vit, **settings)
    files, not_drawn = choose(found, limit, plan.seed)
    asked = {**settings_of(plan, settings), "units": units, "limit": limit, "images": files_sha256(found)}
    kept = Kept(keep, "attention", vit, name, asked)
    if kept.done is not None:
        return kept.done
    notes = kept.notes("rank")
    top = top_images(
        vit,
        files,
        STRONGEST,
        sites=[site.name for at in chosen.values() for site in at],
        batch_size=4 * batch_size,
        partial=None if notes is None else notes.path,
        progress=progress,
    )
    neurons = [
        site.address(unit) for at in chosen.values() for site in at for unit in excited(top, site, units, plan.seed)
    ]
    if not neurons:
        raise StudyError(f"none of {top.images} photos excites any unit at {len(chosen)} kinds of sites; give others")
    task = Task(vit, neurons, plan, renders_folder(keep, kept.name))
    (renders,) = render_all([task], batch_size=batch_size, progress=progress)
    scores = {each.measured.address: each for each in score(vit, renders, top, 4 * batch_size, progress)}
    rows = [
        {"parameters": kept.facts["parameters"], "kind": kind, **row}
        for kind, at in chosen.items()
        for row in _rows(at, scores, plan)
    ]
    facts = {
        "images": top.images,
        "left_out": {**not_drawn, **dict.fromkeys(top.skipped, "not readable as an image")},
        "without": [kind for kind in KINDS if kind not in chosen],
        "renders": plan.settings,
        "neurons": [each.record for each in scores.values()],
    }
    return kept.finish(rows, facts, (ABOVE, STEADY, SCALE, *PROGRESSION))


def kind_of(site: Site) -> str:
    """``"query"``, ``"key"``, ``"value"``, ``"hidden"`` or ``"output"``, by the end of the site's name."""
    last = site.name.rpartition(".")[2]
    return last if last in (*PARTS, OUTPUT) else HIDDEN


def three_blocks(sites: Sequence[Site]) -> dict[str, list[Site]]:
    """Of each kind that there is, the first site, the one half-way and the last; fewer where there are.

    Raises
    ------
    StudyError
        There are only sites of one kind, so that nothing can be compared.
    """
    chosen = {}
    for kind in KINDS:
        of_kind = [site for site in sites if kind_of(site) == kind]
        places = sorted({0, (len(of_kind) - 1) // 2, len(of_kind) - 1}) if of_kind else []
        if places:
            chosen[kind] = [of_kind[place] for place in places]
    if len(chosen) < 2:
        raise StudyError(
            f"the study compares kinds of sites, and the model has {next(iter(chosen), 'none')} only; adapt it with "
            'sites="all"'
        )
    return chosen


def excited(top: TopImages, site: Site, units: int, seed: int) -> list[int]:
    """Units of a site that some photo excites, drawn by the seed; all, where there are fewer."""
    live = (top.units[site.name].activations[:, 0] > 0).nonzero()[0].tolist()
    return sorted(random.Random(f"{seed} {site.name}").sample(live, min(units, len(live))))


def score(vit: AdaptedModel, renders: Renders, top: TopImages, batch_size: int, progress: bool) -> Iterator[Scored]:
    """Each render beside its neuron's strongest photos."""
    agreed = agreements(vit, renders, top, batch_size=batch_size, progress=progress)
    for measured, agreement in zip(measure_all(renders), agreed, strict=True):
        strongest = top.best(measured.render.neuron)[0].activation
        yield Scored(measured, strongest, None if agreement is None else agreement.value)


def draw(study: Study) -> Figure:
    """Frequency, shares above the photos and agreement, by kind, with the three blocks side by side."""
    columns = (FREQUENCY, STEADY, AGREEMENT)
    figure, axes = panels(len(columns), rows=len(study.models))
    for line, model in zip(axes if len(study.models) > 1 else [axes], study.models, strict=True):
        rows = [row for row in study.rows if row["model"] == model and row["site"] != ALL_SITES]
        kinds = list(dict.fromkeys(str(row["kind"]) for row in rows))
        for ax, column in zip(line, columns, strict=True):
            for number, depth in enumerate(DEPTHS):
                of_depth = [row for row in rows if row["depth"] == depth]
                middle, low, high = (numbers(of_depth, end + column) for end in ("", "low ", "high "))
                places = [kinds.index(str(row["kind"])) + (number - 1) * 0.22 for row in of_depth]
                ends = [
                    [max(at - end, 0) for at, end in zip(middle, low, strict=True)],
                    [max(end - at, 0) for at, end in zip(middle, high, strict=True)],
                ]
                label = f"{depth} block"
                ax.errorbar(places, middle, ends, fmt="o", markersize=5, capsize=2, color=f"C{number}", label=label)
            if column == AGREEMENT:
                ax.axhline(0.5, color="grey", linestyle=":")
            ax.set_xticks(range(len(kinds)), kinds)
            ax.set_title(f"{model}: {column}" if len(study.models) > 1 else column)
            ax.set_ylim(0, None if column == FREQUENCY else 1.05)
        finish(line, "cycles per shorter side")
    return figure


def _rows(sites: Sequence[Site], scores: Mapping[Address, Scored], plan: RenderPlan) -> Iterator[Columns]:
    """A row for each of a kind's sites, and one for all of them."""
    by_site = [[each for address, each in scores.items() if address.site == site.name] for site in sites]
    for depth, site, of_site in zip(_depths(len(sites)), sites, by_site, strict=True):
        yield {"site": site.name, "depth": depth, **_columns(of_site, plan.seed), **no_progression()}
    rising = progression([[each.measured for each in of_site] for of_site in by_site], plan.seed)
    everything = [each for of_site in by_site for each in of_site]
    yield {"site": ALL_SITES, "depth": None, **_columns(everything, plan.seed), **rising}


def _depths(count: int) -> tuple[str, ...]:
    return DEPTHS if count == len(DEPTHS) else (DEPTHS[0], DEPTHS[-1])[:count]


def _columns(scores: Sequence[Scored], seed: int) -> Columns:
    measured = [each.measured for each in scores]
    agreed = [each.agreement for each in scores if each.agreement is not None and each.measured.counts]
    return {
        **counted(measured),
        **mean_column(ABOVE, [float(each.above) for each in scores], seed),
        **mean_column(STEADY, [float(each.steadily_above) for each in scores], seed),
        **structure(measured, seed),
        **mean_column(AGREEMENT, agreed, seed),
    }
